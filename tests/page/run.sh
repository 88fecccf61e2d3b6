#!/bin/sh
# The chat page's test (page_test.py), or a skip where Python is missing. Needs nothing but its standard library.
if ! command -v python3 >/dev/null; then
  echo "$0: Skipped"
  echo "python3 is not installed"
  exit 77
fi
exec python3 "$(dirname "$0")/page_test.py" "$@"
