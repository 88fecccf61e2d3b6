# From ctest's JUnit files: the tests that did not run, by the reason that they gave to GTEST_SKIP.
/<testcase / {
  name = $0
  sub(/.*<testcase name="/, "", name)
  sub(/( +# GetParam.*)?".*/, "", name)
  not_run = 0; take = 0; reason = ""
}
/<skipped/ { not_run = 1 }
# "file:line: Skipped" is followed by the reason.
/: Skipped$/ { take = 1; next }
/^\[  SKIPPED \]/ || /^$/ { take = 0 }
take { reason = reason (reason == "" ? "" : " ") $0 }
/<\/testcase>/ && not_run {
  if (reason == "") reason = "disabled or not built"
  gsub(/&lt;/, "<", reason); gsub(/&gt;/, ">", reason); gsub(/&quot;/, "\"", reason); gsub(/&amp;/, "\\&", reason)
  count[reason]++
  names[reason] = names[reason] "\n    " name
}
END {
  for (reason in count) print "Skipped, " count[reason] ": " reason names[reason]
}
