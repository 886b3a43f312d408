"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tables: a click on a column title sorts by it, best first; a second click reverses the order.
  const valueOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const x = parseFloat(a), y = parseFloat(b);
    return isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  const sort = (head) => {
    const table = head.closest("table"), column = head.cellIndex;
    const first = head.dataset.better === "1" ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    all("th[aria-sort]", table).forEach((header) => header.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "descending" ? -1 : 1;
    const rows = all("tbody tr:not(.summary)", table);
    // Missing values and NaN are last in both orders.
    const missing = (row) => ["", "NaN"].includes(valueOf(row, column));
    rows.sort((a, b) =>
      missing(a) - missing(b) || sign * compare(valueOf(a, column), valueOf(b, column)));
    const body = table.tBodies[0];
    body.prepend(...rows);
  };
  all("th button").forEach((button) =>
    button.addEventListener("click", () => sort(button.closest("th"))));

  // Filters hide the parts of all other datasets and protocols than the chosen ones.
  const filters = all(".filters select");
  const filter = () => {
    const chosen = Object.fromEntries(filters.map(({ name, value }) => [name, value]));
    all("main [data-dataset], main [data-protocol]").forEach((part) => {
      part.hidden = filters.some(({ name }) =>
        chosen[name] && part.dataset[name] && part.dataset[name] !== chosen[name]);
    });
  };
  filters.forEach((select) => select.addEventListener("change", filter));

  // Folded tables are printed unfolded.
  addEventListener("beforeprint", () => all("details").forEach((details) => { details.open = true; }));

  // Before and after: two versions of a picture; the left one is clipped at the line.
  const viewer = document.querySelector("#before-and-after");
  if (!viewer) return;
  const [picture, left, right] = all("select", viewer);
  const show = () => {
    all(".stage", viewer).forEach((stage) => {
      stage.hidden = stage.dataset.picture !== picture.value;
      const images = all("img", stage);
      const find = (name) => images.find((image) => image.alt === name) ?? images[images.length - 1];
      const over = find(left.value), under = find(right.value);
      images.forEach((image) => {
        image.hidden = image !== over && image !== under;
        image.classList.toggle("over", image === over && over !== under);
      });
      stage.querySelector(".left").textContent = over.alt;
      stage.querySelector(".right").textContent = under.alt;
    });
  };
  all(".stage input", viewer).forEach((slider) =>
    slider.addEventListener("input", () =>
      slider.parentElement.style.setProperty("--at", `${slider.value}%`)));
  [picture, left, right].forEach((select) => select.addEventListener("change", show));
  show();
})();
