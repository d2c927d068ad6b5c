// Test cases written in the text form of networks.
//
//   --- title of a case
//   a network
//   becomes            (or: unchanged)
//   a network
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"

namespace ingot::testing {

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

struct IrCase {
  std::string title, before, after;  // the texts of the networks
  bool unchanged = false;
};

inline std::vector<IrCase> parse_cases(const std::string& text) {
  std::vector<IrCase> cases;
  std::string* part = nullptr;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("--- ")) {
      cases.push_back({line.substr(4), "", "", false});
      part = &cases.back().before;
    } else if (part && line == "becomes") {
      part = &cases.back().after;
    } else if (part && line == "unchanged") {
      cases.back().unchanged = true;
      part = &cases.back().after;  // nothing but empty lines
    } else if (part) {
      *part += line + "\n";
    } else if (!line.empty() && line[0] != '#') {
      fail(ErrorCode::kRuntime, "a case begins with '--- title', not with \"{}\"", line);
    }
  }
  return cases;
}

}  // namespace ingot::testing
