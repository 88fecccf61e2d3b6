"""A unittest case with a running server and an openai client, and the runner of the test programs: a line a test, exit
code 77 where the client library is not there.
"""
import sys
import unittest

try:
    import openai
except ImportError:
    from harness import skip
    skip("the openai package of tests/clients/requirements.txt is not installed (./check does that from PyPI)")

from harness import MODEL, Server

MESSAGES = [{"role": "user", "content": "Tell me a story about a little girl and a fox."}]
PROMPT = "Once upon a time there was a little girl who"


class ClientCase(unittest.TestCase):
    """OPTIONS are those of fathom serve. All tests of a class use one server."""

    OPTIONS = ()
    API_KEY = "none"
    MODEL_FOLDER = MODEL

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server(*cls.OPTIONS, model=cls.MODEL_FOLDER))
        cls.client = cls.make_client()
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def make_client(cls, api_key=None):
        client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key=api_key or cls.API_KEY, max_retries=0,
                               timeout=120)
        cls.addClassCleanup(client.close)
        return client

    def chat(self, **options):
        return self.client.chat.completions.create(**{"model": self.model, "messages": MESSAGES, "temperature": 0,
                                                      **options})

    def complete(self, **options):
        return self.client.completions.create(**{"model": self.model, "prompt": PROMPT, "temperature": 0, **options})

    def ids(self, text):
        """Tokens of a text, without a beginning-of-text token."""
        status, answer = self.server.post("/tokenize", {"prompt": text, "add_special_tokens": False})
        self.assertEqual(status, 200, answer)
        return answer["tokens"]


def run():
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
