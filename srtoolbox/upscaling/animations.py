def upscale_animation(*a, **k):
    raise NotImplementedError
