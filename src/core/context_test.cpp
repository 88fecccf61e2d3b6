#include "core/context.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/error.h"

namespace fathom {
namespace {

// Sets FATHOM_FORCE_ISA, and puts back what it was.
class Forced {
 public:
  explicit Forced(const char* value) {
    if (const char* old = std::getenv("FATHOM_FORCE_ISA")) old_ = old;
    setenv("FATHOM_FORCE_ISA", value, 1);
  }
  ~Forced() { old_.empty() ? unsetenv("FATHOM_FORCE_ISA") : setenv("FATHOM_FORCE_ISA", old_.c_str(), 1); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;

 private:
  std::string old_;
};

TEST(Isa, TheBestIsOneOfThisMachine) {
  EXPECT_TRUE(MachineHas(Isa::kReference));
  EXPECT_TRUE(MachineHas(BestIsa()));
#if defined(__aarch64__)
  EXPECT_EQ(BestIsa(), Isa::kNeon);
  for (const Isa isa : {Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    EXPECT_FALSE(MachineHas(isa)) << Name(isa);
  }
#else
  EXPECT_FALSE(MachineHas(Isa::kNeon));
#endif
}

TEST(Isa, ForcedByTheEnvironment) {
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const Forced forced(std::string(Name(isa)).c_str());
    if (MachineHas(isa)) {
      EXPECT_EQ(Context::IsaFromEnvironment(), isa);
      continue;
    }
    try {
      Context::IsaFromEnvironment();
      ADD_FAILURE() << "this machine lacks " << Name(isa);
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(Name(BestIsa())), std::string::npos) << e.what();
    }
  }
  const Forced nothing("");
  EXPECT_EQ(Context::IsaFromEnvironment(), BestIsa());
  const Forced unknown("sparc");
  EXPECT_THROW(Context::IsaFromEnvironment(), Error);
}

}  // namespace
}  // namespace fathom
