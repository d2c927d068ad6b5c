#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "base/fields.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"

namespace ingot {
namespace {

enum class Colour { kRed, kBlue };
constexpr std::string_view kColours[] = {"red", "blue"};
std::span<const std::string_view> enum_names(Colour) { return kColours; }

struct Sample {
  bool on = false;
  int64_t count = 3;
  float epsilon = 1e-5f;
  std::string text;
  Colour colour = Colour::kRed;
  std::vector<int64_t> list;
  static constexpr auto fields() {
    return std::tuple{field("on", &Sample::on),           field("count", &Sample::count),
                      field("epsilon", &Sample::epsilon), field("text", &Sample::text),
                      field("colour", &Sample::colour),   field("list", &Sample::list)};
  }
};

Sample parse_sample(std::string_view text) {
  Lexer lexer(text);
  return parse_fields<Sample>(lexer);
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Fields, DefaultsPrintAsNothing) {
  EXPECT_EQ(print_fields(Sample{}), "");
  EXPECT_TRUE(equal_fields(parse_sample(""), Sample{}));
}

TEST(Fields, TextAndJsonReadBackEqual) {
  Sample sample{true, -7, 1e-6f, "two words \"quoted\"", Colour::kBlue, {1, 2}};
  EXPECT_EQ(
      print_fields(sample),
      "{on = true, count = -7, epsilon = 1e-06, text = \"two words \\\"quoted\\\"\", colour = blue, list = [1, 2]}");
  EXPECT_TRUE(equal_fields(parse_sample(print_fields(sample)), sample));
  Sample from_json;
  value_from_json(parse_json(value_to_json(sample).dump()), from_json);
  EXPECT_TRUE(equal_fields(from_json, sample));
}

TEST(Fields, MistakesNameTheFields) {
  EXPECT_NE(message_of([] { parse_sample("{size = 3}"); }).find("count"), std::string::npos);
  EXPECT_NE(message_of([] { parse_sample("{colour = green}"); }).find("red, blue"), std::string::npos);
  EXPECT_NE(message_of([] { parse_sample("{count = 1, count = 2}"); }).find("once"), std::string::npos);
  EXPECT_NE(message_of([] { parse_sample("{count = x}"); }).find("column"), std::string::npos);
}

TEST(Error, ScopesBecomeBreadcrumbs) {
  std::string text = message_of([] {
    Scope outer("engine");
    Scope inner("header");
    fail(ErrorCode::kIncompatible, "found version {}, needed {}", 2, 1);
  });
  EXPECT_EQ(text, "engine: header: found version 2, needed 1");
}

TEST(Json, RefusesNonsense) {
  for (const char* text : {"", "{", "[1,", "{\"a\": 1, \"a\": 2}", "nul", "1 2"})
    EXPECT_THROW(parse_json(text), Error) << text;
  EXPECT_THROW(parse_json(std::string(300, '[')), Error);
}

TEST(Json, KeepsOrderAndIntegers) {
  Json json = parse_json(R"({"z": 1, "a": [1.5, true, null, "x\u00e9"], "big": 9007199254740993})");
  EXPECT_EQ(json.dump(), "{\"z\":1,\"a\":[1.5,true,null,\"xé\"],\"big\":9007199254740993}");
  EXPECT_EQ(json.get("big", 0), 9007199254740993);
  EXPECT_NE(message_of([&] { json.get("z", "text"); }).find("key \"z\""), std::string::npos);
}

TEST(Hasher, EqualsTheHashOfTheWhole) {
  Hasher hasher;
  hasher.add("one ");
  hasher.add("two");
  EXPECT_EQ(hasher.digest(), hash64("one two"));
  EXPECT_EQ(hex64(0x1fu), "000000000000001f");
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  Path folder = Path(testing::TempDir()) / "ingot_atomic";
  std::filesystem::create_directories(folder);
  {
    AtomicFile file(folder / "a");
    file.write("half");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  write_text_file(folder / "a", "whole");
  EXPECT_EQ(read_text_file(folder / "a"), "whole");
  std::filesystem::remove_all(folder);
}

TEST(AtomicFile, ReportsAFullDisk) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  std::string text = message_of([] { write_text_file("/proc/ingot", "x"); });
  EXPECT_NE(text.find("cannot create"), std::string::npos);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they need more than a process may have here
TEST(ThreadPool, ThreadsThatCannotBeStartedAreAnError) {
  auto start = [] {
    const rlimit some{uint64_t{2} << 30, uint64_t{2} << 30};  // of address space: too little for so many stacks
    setrlimit(RLIMIT_AS, &some);
    try {
      ThreadPool pool(1000);
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
      std::exit(static_cast<int>(error.code()));
    }
    std::exit(100);
  };
  EXPECT_EXIT(start(), testing::ExitedWithCode(1), "cannot start thread [0-9]+ of 1000");
}
#endif

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 300; ++round) {
      std::vector<std::atomic<int>> hits(97);
      pool.parallel_for(97, 8, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      for (auto& hit : hits) ASSERT_EQ(hit, 1);
    }
  }
}

TEST(Format, FindsTheNearestWord) {
  EXPECT_EQ(nearest("LlamaForCausalML", {"GPT2LMHeadModel", "LlamaForCausalLM"}), "LlamaForCausalLM");
  EXPECT_EQ(print_float(1e-5f), "1e-05");
}

}  // namespace
}  // namespace ingot
