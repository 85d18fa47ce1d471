// libFuzzer's driver: `make fuzz-disk`. With --write-seeds DIR it writes the images to start from.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "one_image.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (*argc != 3 || std::strcmp((*argv)[1], "--write-seeds") != 0) return 0;
  int number = 0;
  for (const auto& seed : veneer::disk::fuzz_seeds())
    std::ofstream(std::string((*argv)[2]) + "/seed" + std::to_string(number++), std::ios::binary)
        .write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  veneer::disk::fuzz_one_image(data, size);
  return 0;
}
