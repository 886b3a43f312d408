def upscale_video(*a, **k):
    raise NotImplementedError
