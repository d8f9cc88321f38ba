"""Settings of every test: Hypothesis without a stop watch, repeatable under CI; one torch thread; Ctrl-C."""

import os
import signal

import torch
from hypothesis import settings

# A first call compiles or imports something, so a time limit for one example says nothing.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")

torch.set_num_threads(1)  # small tensors on busy cores run many times slower with more

# A shell starts what it runs in the background deaf to Ctrl-C, and every child inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
