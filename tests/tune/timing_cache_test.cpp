#include "tune/timing_cache.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/error.h"
#include "base/folder_lock.h"

namespace ingot {
namespace {

const Tactic kTactic{"cpu.matmul_avx2", "layout=panel_16 tile=6x16"};

TEST(TimingCache, KeepsThreeDigits) {
  EXPECT_EQ(rounded_microseconds(14.2345), 14.2);
  EXPECT_EQ(rounded_microseconds(123456), 123000);
  EXPECT_EQ(rounded_microseconds(0.0123456), 0.0123);
}

TEST(TimingCache, TextReadsBackEqual) {
  TimingCache cache;
  cache.add("Xeon/avx2/2 threads", "matmul f32[1, 8] bf16[16, 8]", kTactic, "5f2c91", {14.2345, false});
  cache.add("Xeon/avx2/2 threads", "matmul f32[2, 8] bf16[16, 8] {bias = true}", kTactic, "5f2c91", {281.9, true});
  cache.add("Xeon/avx2/2 threads", "add f32[2, 8] f32[2, 8]", {"cpu.add", ""}, "1", {3, false});
  TimingCache again;
  EXPECT_TRUE(again.merge_text(cache.text()).empty());
  EXPECT_EQ(again, cache);
  EXPECT_EQ(again.text(), cache.text());
}

TEST(TimingCache, EntriesAreValidOneByOne) {
  TimingCache cache;
  cache.add("here", "p", kTactic, "1", {10, false});
  EXPECT_TRUE(cache.find("here", "p", kTactic, "1"));
  EXPECT_FALSE(cache.find("there", "p", kTactic, "1"));
  EXPECT_FALSE(cache.find("here", "q", kTactic, "1"));
  EXPECT_FALSE(cache.find("here", "p", kTactic, "2"));
  EXPECT_FALSE(cache.find("here", "p", Tactic{"cpu.matmul_avx2", "other"}, "1"));
}

TEST(TimingCache, ListsTheConfigurationsOfASource) {
  TimingCache cache;
  cache.add("here", "p", {"lib.a", "{x = 2}"}, "1", {10, false});
  cache.add("here", "p", {"lib.a", "{x = 1}"}, "1", {11, true});
  cache.add("here", "p", {"lib.a", "{x = 3}"}, "12", {10, false});
  cache.add("here", "p", {"lib.ab", "{x = 4}"}, "1", {10, false});
  cache.add("here", "p2", {"lib.a", "{x = 5}"}, "1", {10, false});
  cache.add("there", "p", {"lib.a", "{x = 6}"}, "1", {10, false});
  EXPECT_EQ(cache.configs("here", "p", "lib.a", "1"), (std::vector<std::string>{"{x = 1}", "{x = 2}"}));
  EXPECT_EQ(cache.configs("here", "p", "lib.a", "12"), (std::vector<std::string>{"{x = 3}"}));
  EXPECT_TRUE(cache.configs("here", "q", "lib.a", "1").empty());
}

TEST(TimingCache, DamagedLinesAreReportedAndSkipped) {
  TimingCache cache;
  std::string text =
      "# ingot timing cache 1\n"
      "here | p | a@1 x | 10us\n"
      "garbage\n"
      "here | p | a@1 | tenus\n"
      "here | p | a@1 | -3us\n"
      "here | p | a@1 | nanus\n"
      "here | p | a@1 | 10us | more\n"
      "here | p | no version | 10us\n"
      " | p | a@1 | 10us\n"
      "\x01\x02 | p | a@1 | 10us\n"
      "\n"
      "here | q | b@2 | >281us";
  std::vector<std::string> damage = cache.merge_text(text);
  ASSERT_EQ(damage.size(), 8u);
  EXPECT_NE(damage[0].find("line 3"), std::string::npos);
  EXPECT_EQ(cache.size(), 2u);
  auto dropped = cache.find("here", "q", {"b", ""}, "2");
  ASSERT_TRUE(dropped);
  EXPECT_TRUE(dropped->dropped);
}

TEST(TimingCache, MergesAndSaves) {
  Path path = std::filesystem::path(testing::TempDir()) / "ingot_timings.txt";
  TimingCache a, b;
  a.add("here", "p", kTactic, "1", {10, false});
  b.add("here", "p", kTactic, "1", {20, false});
  b.add("here", "q", kTactic, "1", {30, false});
  a.save(path);
  TimingCache merged = TimingCache::load(path);
  merged.merge_text(b.text());
  EXPECT_EQ(merged, b);
  EXPECT_EQ(TimingCache::load(path.string() + ".missing").size(), 0u);
  std::filesystem::remove(path);
}

TEST(TimingCache, SavingWhatWasAddedKeepsWhatOthersHaveAdded) {
  Path path = std::filesystem::path(testing::TempDir()) / "ingot_shared_timings.txt";
  TimingCache before;
  before.add("here", "p", kTactic, "1", {10, false});
  before.add("here", "r", kTactic, "1", {11, false});
  before.save(path);
  TimingCache first = before, second = before, expected = before;
  first.add("here", "p", kTactic, "1", {20, false});
  first.add("here", "q", kTactic, "1", {30, false});
  second.add("here", "r", kTactic, "1", {40, true});
  second.add("there", "q", kTactic, "1", {50, false});
  first.save_added(before, path);
  second.save_added(before, path);
  expected.merge_text(first.text());
  expected.add("here", "r", kTactic, "1", {40, true});
  expected.add("there", "q", kTactic, "1", {50, false});
  EXPECT_EQ(TimingCache::load(path), expected);

  auto written = std::filesystem::last_write_time(path);
  std::filesystem::last_write_time(path, written - std::chrono::hours(1));
  before.save_added(before, path);
  EXPECT_EQ(std::filesystem::last_write_time(path), written - std::chrono::hours(1)) << "nothing to write";
  std::filesystem::remove(path);
  second.save_added(before, path);
  EXPECT_EQ(TimingCache::load(path), second) << "a file that is gone is written anew";
  std::filesystem::remove(path);
}

TEST(TimingCache, SavesOneAtATime) {
  Path folder = std::filesystem::path(testing::TempDir()) / "ingot_locked_timings", path = folder / "times";
  std::filesystem::create_directories(folder);
  TimingCache cache;
  cache.add("here", "p", kTactic, "1", {10, false});
  std::thread save;
  {
    FolderLock other = FolderLock::take(folder);
    save = std::thread([&] { cache.save_added({}, path); });
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  save.join();
  EXPECT_EQ(TimingCache::load(path), cache);
  std::filesystem::remove_all(folder);
}

TEST(TimingCache, ReadsAndReplacesNothingElse) {
  Path path = std::filesystem::path(testing::TempDir()) / "ingot_no_timings";
  TimingCache cache;
  cache.add("here", "p", kTactic, "1", {10, false});
  auto code_of = [](auto work) {
    try {
      work();
    } catch (const Error& error) {
      return static_cast<int>(error.code());
    }
    return 0;
  };
  const std::pair<std::string, ErrorCode> files[] = {
      {"precious", ErrorCode::kUsage},
      {"\n", ErrorCode::kUsage},
      {"{\"a\": 1}\n", ErrorCode::kUsage},
      {std::string("\x08\0\0\0|\n|\n", 8), ErrorCode::kUsage},
      {"# ingot timing cache 2\n" + cache.text(), ErrorCode::kIncompatible},
  };
  for (const auto& [text, code] : files) {
    SCOPED_TRACE(text);
    write_text_file(path, text);
    EXPECT_EQ(code_of([&] { TimingCache::load(path); }), static_cast<int>(code));
    EXPECT_EQ(code_of([&] { cache.save(path); }), static_cast<int>(code));
    EXPECT_EQ(read_text_file(path), text);
  }
  for (const std::string& text :
       {std::string(), std::string("# ingot timing cache 1\n"), std::string("damaged\nhere | q | b@2 | 3us")}) {
    write_text_file(path, text);
    EXPECT_EQ(TimingCache::load(path).size(), text.starts_with("damaged") ? 1u : 0u);
    cache.save(path);
    EXPECT_EQ(TimingCache::load(path), cache);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace ingot
