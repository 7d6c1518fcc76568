"""Several processes that train one run together, and arrays that lie on the devices of several."""
