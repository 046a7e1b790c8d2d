"""Parts that detectors and instance segmenters share.

What has a fixed shape and a gradient is a Cell; what chooses (anchors to objects, samples, suppression, matching) is
NumPy on the host, between `scout` and the loss graph of a staged step, and hands over index arrays of a fixed size with
flags that say which entries are real. So a step compiles once, whatever an image holds.

Boxes are xyxy in pixels of the canvas, float32, unless a function says otherwise.
"""
