#include "io/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

TEST(HumanBytes, Reads) { EXPECT_EQ(fathom::io::HumanBytes(1500000000), "1.50 GB"); }
