"""The chat page in a real browser: page_test.py TOPIC[.TEST]... (or nothing, for all). With FATHOM_PAGE_SHOTS=folder, pictures
of it are left there to be looked at. The topics `served`, `servedchat` and `servedadmin` need FATHOM_BINARY and FATHOM_MODEL; the others
talk to mock_server.py. Exit code 77: skipped, with the reason."""

import inspect
import os
import sys
import unittest

from admin_cases import Admin, ServedAdmin
from browser import find_chromium
from content_cases import Filter, Markdown, Safety
from page_case import SHOTS
from served_cases import Served, ServedChat
from state_cases import Look, Storage
from talk_cases import Chat, Completion, Errors, Key

TOPICS = {c.__name__.lower(): c for c in (Chat, Markdown, Safety, Filter, Storage, Completion, Errors, Key, Look, Served, ServedChat, Admin, ServedAdmin)}


def skip(reason):
    print(f"{__file__}:{inspect.currentframe().f_back.f_lineno}: Skipped\n{reason}\n")
    sys.exit(77)


def main():
    if not find_chromium():
        skip("Chromium is not installed (Debian's package chromium)")
    if SHOTS:
        os.makedirs(SHOTS, exist_ok=True)
    suite = unittest.TestSuite()
    for name in sys.argv[1:] or TOPICS:
        if name.startswith("served") and not os.environ.get("FATHOM_BINARY"):
            skip("FATHOM_BINARY and FATHOM_MODEL are not set")
        topic, _, method = name.partition(".")
        suite.addTests([TOPICS[topic](method)] if method else unittest.defaultTestLoader.loadTestsFromTestCase(TOPICS[topic]))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
