#include "plan/engine_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <random>

#include "base/error.h"
#include "plan/check_plan.h"
#include "plan/engine_format.h"
#include "plan/plan_json.h"
#include "sample_plan.h"

namespace ingot {
namespace {

class EngineFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("ingot_engine_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const Path& path, const Plan& plan) {
    EngineWriter writer(path);
    for (const PlanWeight& weight : plan.weights) {
      writer.pad_weights_to(weight.offset);
      std::vector<std::byte> bytes(weight.bytes);
      std::mt19937_64 random(weight.offset);
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
      // In two pieces, as a weight that is produced bit by bit.
      writer.write_weights(std::span(bytes).first(bytes.size() / 3));
      writer.write_weights(std::span(bytes).subspan(bytes.size() / 3));
    }
    std::vector<std::byte> modules(module_section_bytes(plan));
    for (size_t i = 0; i < modules.size(); ++i) modules[i] = static_cast<std::byte>(i * 37 + 1);
    return writer.finish(plan, modules);
  }

  static std::vector<std::byte> bytes_of(const Path& path) {
    std::string text = read_text_file(path);
    auto* data = reinterpret_cast<const std::byte*>(text.data());
    return {data, data + text.size()};
  }

  // The message of the refusal; empty when it was accepted.
  static std::string refusal(const std::vector<std::byte>& bytes) {
    try {
      read_engine(bytes);
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIncompatible) << error.what();
      return error.what();
    }
  }

  Path folder_;
};

TEST_F(EngineFileTest, GivesBackWhatWasWritten) {
  Plan plan = sample_plan();
  std::string hash = write(folder_ / "a", plan);
  EngineFile file = EngineFile::open(folder_ / "a");
  EXPECT_EQ(file.plan(), plan);
  EXPECT_EQ(file.content_hash(), hash);
  EXPECT_EQ(hash.size(), 16u);
  ASSERT_EQ(file.weights().size(), 1344u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.weights().data()) % 4096, 0u);
  std::mt19937_64 random(320);
  for (size_t i = 0; i < 1024; ++i) ASSERT_EQ(file.weights()[320 + i], static_cast<std::byte>(random()));
  for (size_t i = 256; i < 320; ++i) ASSERT_EQ(file.weights()[i], std::byte{0});
}

TEST_F(EngineFileTest, SameContentSameBytes) {
  Plan plan = sample_plan();
  std::string a = write(folder_ / "a", plan), b = write(folder_ / "b", plan);
  EXPECT_EQ(a, b);
  EXPECT_EQ(bytes_of(folder_ / "a"), bytes_of(folder_ / "b"));
  plan.programs[0].steps[0].label = "other";
  EXPECT_NE(write(folder_ / "c", plan), a);
}

TEST_F(EngineFileTest, HoldsAPlanWithoutWeights) {
  Plan plan;
  write(folder_ / "a", plan);
  EXPECT_EQ(EngineFile::open(folder_ / "a").plan(), plan);
}

TEST_F(EngineFileTest, VerifiesManyBlocksWithSeveralThreads) {
  Plan plan;
  uint64_t bytes = 2 * kEngineBlockBytes + 4096;
  plan.weights = {{"w", TensorType{DType::kU8, {static_cast<int64_t>(bytes)}, ""}, "w", 0, bytes}};
  write(folder_ / "a", plan);
  EXPECT_NO_THROW(EngineFile::open(folder_ / "a", {.verify_weights = true, .threads = 2}));
  std::vector<std::byte> content = bytes_of(folder_ / "a");
  content[4096 + 2 * kEngineBlockBytes + 77] ^= std::byte{1};
  EXPECT_NE(refusal(content).find("section weights: damaged: the checksum of block 2 of 3"), std::string::npos);
  EXPECT_NO_THROW(read_engine(content, {.verify_weights = false}));
}

TEST_F(EngineFileTest, NoticesEveryDamagedByte) {
  write(folder_ / "a", sample_plan());
  std::vector<std::byte> good = bytes_of(folder_ / "a");
  EXPECT_EQ(refusal(good), "");
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit : {0, 5}) {
      std::vector<std::byte> bad = good;
      bad[i] ^= static_cast<std::byte>(1 << bit);
      ASSERT_NE(refusal(bad), "") << "byte " << i;
    }
  }
}

TEST_F(EngineFileTest, NoticesEveryTruncationAndExtension) {
  write(folder_ / "a", sample_plan());
  std::vector<std::byte> good = bytes_of(folder_ / "a");
  for (size_t size = 0; size < good.size(); size += size < 70 ? 1 : 97)
    ASSERT_NE(refusal({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}), "") << size;
  good.push_back({});
  EXPECT_NE(refusal(good).find("truncated or extended"), std::string::npos);
}

TEST_F(EngineFileTest, SaysWhichVersionItFoundAndNeeds) {
  write(folder_ / "a", sample_plan());
  std::vector<std::byte> bytes = bytes_of(folder_ / "a");
  bytes[8] = std::byte{9};
  EXPECT_NE(refusal(bytes).find("the format version is 9; this build of ingot reads version 2"), std::string::npos);
  bytes[0] = std::byte{'X'};
  EXPECT_NE(refusal(bytes).find("not an engine file"), std::string::npos);
}

// Replaces the header text and makes the checksums around it fit.
std::vector<std::byte> with_header(std::vector<std::byte> bytes, const std::function<void(Json&)>& change,
                                   bool keep_content_hash) {
  EnginePreamble preamble;
  std::memcpy(&preamble, bytes.data(), sizeof preamble);
  std::string text(reinterpret_cast<const char*>(bytes.data()) + preamble.header_offset, preamble.header_bytes);
  Json header = parse_json(text);
  change(header);
  if (!keep_content_hash) header.set("content_hash", content_hash_of(header.at("sections")));
  text = header.dump();
  bytes.resize(preamble.header_offset);
  auto* data = reinterpret_cast<const std::byte*>(text.data());
  bytes.insert(bytes.end(), data, data + text.size());
  preamble.header_bytes = text.size();
  preamble.header_checksum = hash64(text);
  preamble.file_bytes = bytes.size();
  preamble.checksum = preamble_checksum(preamble);
  std::memcpy(bytes.data(), &preamble, sizeof preamble);
  return bytes;
}

TEST_F(EngineFileTest, RefusesALyingHeaderField) {
  write(folder_ / "a", sample_plan());
  std::vector<std::byte> good = bytes_of(folder_ / "a");
  auto section = [](Json& header, size_t index) -> Json& {
    for (auto& [key, value] : header.as_object())
      if (key == "sections") return value.as_array()[index];
    throw std::logic_error("no sections");
  };
  struct Case {
    std::function<void(Json&)> change;
    const char* message;
    bool keep_content_hash = false;
  };
  const Case cases[] = {
      {[](Json&) {}, ""},
      {[](Json& h) { h.set("content_hash", "0123456789abcdef"); }, "content hash", true},
      {[](Json& h) { h.set("more", 1); }, "3 members where 2 are known"},
      {[&](Json& h) { section(h, 0).set("name", "plan"); }, "section weights: found the section plan"},
      {[&](Json& h) { section(h, 0).set("offset", 64); }, "the offset is 64, not 4096"},
      {[&](Json& h) { section(h, 0).set("offset", -4096); }, "found -4096"},
      {[&](Json& h) { section(h, 1).set("offset", 4096); }, "section modules: the offset is 4096, not 8192"},
      {[&](Json& h) { section(h, 2).set("offset", int64_t{1} << 62); }, "section plan: the offset is"},
      {[&](Json& h) { section(h, 0).set("bytes", int64_t{1} << 62); }, "exceed"},
      {[&](Json& h) { section(h, 0).set("bytes", 1343); }, ""},
      {[&](Json& h) { section(h, 0).set("block_bytes", 0); }, "block_bytes"},
      {[&](Json& h) { section(h, 0).set("checksums", Json::array()); }, "0 checksums for 1 blocks"},
      {[&](Json& h) { section(h, 0).set("checksums", "x"); }, "array"},
      {[&](Json& h) { section(h, 0).set("more", 1); }, "6 members"},
      {[&](Json& h) { section(h, 1).set("bytes", 10); }, "the padding byte at 8202 is not zero"},
      {[&](Json& h) { section(h, 2).set("bytes", 10); }, "the padding byte at 12298 is not zero"},
      {[&](Json& h) { h.set("sections", Json::array()); }, "there are 0 sections"},
  };
  for (const Case& test : cases) {
    std::string message = refusal(with_header(good, test.change, test.keep_content_hash));
    EXPECT_NE(message.find(test.message), std::string::npos) << message << "\nneeded: " << test.message;
    if (&test != &cases[0]) {
      EXPECT_NE(message, "");
    }
  }
}

TEST_F(EngineFileTest, RefusesAPlanThatIsNotConsistent) {
  Plan plan = sample_plan();
  EngineWriter writer(folder_ / "a");
  EXPECT_THROW(writer.finish(plan), Error);  // no weights were written
  plan.programs[0].arena_bytes = 0;
  EXPECT_THROW(write(folder_ / "a", plan), Error);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a"));
}

TEST_F(EngineFileTest, LeavesNothingWhenTheDiskIsFull) {
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small{8192, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    write(folder_ / "a", sample_plan());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kRuntime);
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("cannot write"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(EngineFileTest, SaysWhyItCannotOpen) {
  try {
    EngineFile::open(folder_ / "missing");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kRuntime);
  }
}

}  // namespace
}  // namespace ingot
