# From ctest's JUnit files: the name of each test that did not run, and the reason that it gave to GTEST_SKIP.
/<testcase / {
  name = $0; sub(/.*<testcase name="/, "", name); sub(/".*/, "", name)
  not_run = 0; take = 0; reason = ""
}
/<skipped/ { not_run = 1 }
# "file:line: Skipped" is followed by the reason.
/: Skipped$/ { take = 1; next }
/^\[  SKIPPED \]/ || /^$/ { take = 0 }
take { reason = reason (reason == "" ? "" : " ") $0 }
/<\/testcase>/ && not_run {
  gsub(/&lt;/, "<", reason); gsub(/&gt;/, ">", reason); gsub(/&quot;/, "\"", reason); gsub(/&amp;/, "\\&", reason)
  print name ": " (reason == "" ? "disabled or not built" : reason)
}
