# A stand-in for the Nim package `libplum`, with its shape: a raw module and a layer on it.
version       = "0.0.1"
author        = "libplum in Rust"
description   = "A layer on the raw module, for tests"
license       = "MIT OR Apache-2.0"
installDirs   = @["libplum"]
