#include "runtime/runs_under_way.h"

#include <gtest/gtest.h>

namespace ingot {
namespace {

class RunsUnderWayTest : public testing::Test {
 protected:
  ResolvedProgram small_{.name = "program 0 (main, tokens 1..4)"}, large_{.name = "program 1 (main, tokens 5..48)"};
  RunsUnderWay runs_;
};

TEST_F(RunsUnderWayTest, NamesThoseThatMayHaveFailed) {
  EXPECT_EQ(runs_.text(), "between runs");
  const uint64_t first = runs_.begin(large_);
  EXPECT_EQ(runs_.last(), first);
  EXPECT_EQ(runs_.text(), "a step of program 1 (main, tokens 5..48), which the debug log names");
  const uint64_t second = runs_.begin(small_);
  EXPECT_EQ(runs_.text(),
            "a step of program 1 (main, tokens 5..48) or of program 0 (main, tokens 1..4), which the debug log names");
  runs_.ended(first);
  EXPECT_EQ(runs_.text(), "a step of program 0 (main, tokens 1..4), which the debug log names");
  runs_.ended(second);
  EXPECT_EQ(runs_.text(), "between runs");
}

TEST_F(RunsUnderWayTest, AProgramThatRunsAgainStaysUnderWay) {
  const uint64_t first = runs_.begin(small_);
  const uint64_t second = runs_.begin(small_);
  EXPECT_LT(first, second);
  runs_.ended(first);
  EXPECT_EQ(runs_.text(), "a step of program 0 (main, tokens 1..4), which the debug log names");
  runs_.ended(second);
  EXPECT_EQ(runs_.text(), "between runs");
}

// As a device that has failed: every call says so.
TEST_F(RunsUnderWayTest, AFailureIsToldOnceWithTheNames) {
  runs_.begin(small_);
  int calls = 0;
  try {
    Scope scope("outside");
    runs_.name_failures([&] {
      ++calls;
      fail(ErrorCode::kRuntime, "work failed");
    });
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "outside: a step of program 0 (main, tokens 1..4), which the debug log names: work failed");
    EXPECT_EQ(error.code(), ErrorCode::kRuntime);
  }
  EXPECT_EQ(calls, 2);
}

// What does not fail again is no failure of the device.
TEST_F(RunsUnderWayTest, AnErrorThatPassesStaysAsItWas) {
  runs_.begin(small_);
  bool failed = false;
  try {
    runs_.name_failures([&] {
      if (!std::exchange(failed, true)) fail(ErrorCode::kDoesNotFit, "once");
    });
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), "once");
    EXPECT_EQ(error.code(), ErrorCode::kDoesNotFit);
  }
}

TEST_F(RunsUnderWayTest, NothingIsSaidWhileAllIsWell) {
  int calls = 0;
  runs_.name_failures([&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace ingot
