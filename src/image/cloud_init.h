// Seeds for cloud-init's NoCloud data source: a small volume CIDATA with user-data, meta-data and network-config.
//
// Spec: https://docs.cloud-init.io/en/22.4/topics/datasources/nocloud.html
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/fat.h"

namespace veneer::image {

/// The files of a seed. `source` is a folder with user-data and perhaps meta-data, network-config and vendor-data; or a
/// file, which is the user-data; or words "user=NAME,password=TEXT,ssh-key=FILE,hostname=NAME", of which user-data is
/// made. meta-data that is not there is made: the instance's id changes when any of the other files does.
Result<std::vector<FatFile>> seed_files(const std::string& source);

/// The whole volume, ready to be a disk.
Result<std::vector<std::uint8_t>> make_seed(const std::string& source);

}  // namespace veneer::image
