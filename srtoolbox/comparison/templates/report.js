"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tables: a click on a head sorts by it, best first; a second click the other way round.
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
    all("th[aria-sort]", table).forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "descending" ? -1 : 1;
    const rows = all("tbody tr:not(.summary)", table);
    const missing = (row) => valueOf(row, column) === "";
    rows.sort((a, b) =>
      missing(a) - missing(b) || sign * compare(valueOf(a, column), valueOf(b, column)));
    const body = table.tBodies[0];
    body.prepend(...rows);
  };
  all("th button").forEach((button) =>
    button.addEventListener("click", () => sort(button.closest("th"))));

  // Filters: whatever is about another dataset or protocol than the chosen one is hidden.
  const filters = all(".filters select");
  const filter = () => {
    const chosen = Object.fromEntries(filters.map((one) => [one.name, one.value]));
    all("main [data-dataset], main [data-protocol]").forEach((part) => {
      part.hidden = filters.some(({ name }) =>
        chosen[name] && part.dataset[name] && part.dataset[name] !== chosen[name]);
    });
  };
  filters.forEach((one) => one.addEventListener("change", filter));

  // Nothing is folded on paper.
  addEventListener("beforeprint", () => all("details").forEach((one) => { one.open = true; }));

  // Before and after: two versions of a picture, the left one cut off at the line.
  const viewer = document.querySelector("#before-and-after");
  if (!viewer) return;
  const [picture, left, right] = all("select", viewer);
  const show = () => {
    all(".stage", viewer).forEach((stage) => {
      stage.hidden = stage.dataset.picture !== picture.value;
      const images = all("img", stage);
      const find = (name) => images.find((one) => one.alt === name) ?? images[images.length - 1];
      const over = find(left.value), under = find(right.value);
      images.forEach((one) => {
        one.hidden = one !== over && one !== under;
        one.classList.toggle("over", one === over && over !== under);
      });
      stage.querySelector(".left").textContent = over.alt;
      stage.querySelector(".right").textContent = under.alt;
    });
  };
  all(".stage input", viewer).forEach((slider) =>
    slider.addEventListener("input", () =>
      slider.parentElement.style.setProperty("--at", `${slider.value}%`)));
  [picture, left, right].forEach((one) => one.addEventListener("change", show));
  show();
})();
