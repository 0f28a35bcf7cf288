// Found before CUDA's own header of this name (-I native/test/emulator), so that sources for nvcc compile as C++ for
// the emulated device. See README.md.
#pragma once
#include "test/emulator/device.h"
#include "test/emulator/device_math.h"
#include "test/emulator/machine.h"
#include "test/emulator/runtime.h"
#include "test/emulator/vector_types.h"
