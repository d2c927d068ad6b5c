// What the tests of the command line share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "e2e/models.h"
#include "e2e/run_ingot.h"

namespace ingot {

inline std::vector<std::string> keys(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.as_object()) names.push_back(name);
  return names;
}

inline Json json_of(const ProgramRun& run) {
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_TRUE(run.out.ends_with("\n"));
  return run.code == 0 ? parse_json(run.out) : Json::object();
}

// An engine directory of baker-7m, of a toy model, and their models.
class Cli : public testing::Test {
 protected:
  static std::string baker() { return baker_engine().directory(); }
  static std::string toy() {
    static const Engine engine = quick_engine(toy_model("llama"));
    return engine.directory();
  }
  static std::string reference() { return toy_model("llama") + "/golden.safetensors"; }

  Json build_json(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"build", toy_model("llama"), "-O0", "--json"});
    if (std::find(flags.begin(), flags.end(), "-o") == flags.end())
      flags.insert(flags.end(), {"-o", directory_ / "engine"});
    return json_of(run_ingot(flags));
  }
  Json build_config() const { return parse_json(read_text_file(directory_ / "engine/config.json")).at("build_config"); }

  TemporaryDirectory directory_;
};

using Keys = std::vector<std::string>;

}  // namespace ingot
