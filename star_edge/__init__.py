"""star-edge: distil a super-tiny function-calling model and prove it on the device."""

__version__ = "0.1.0"
