"""The tally must not call good what is not."""

import contextlib
import io
import pathlib
import tempfile
import unittest

import tally

CARGO = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\n"
VITEST = "\x1b[2m Test Files \x1b[22m 2 passed (2)\n\x1b[2m      Tests \x1b[22m \x1b[31m1 failed\x1b[39m | \x1b[32m7 passed\x1b[39m (8)\n"


class Tally(unittest.TestCase):
    def test_the_runners_are_read(self):
        self.assertEqual(tally.judge("cargo", CARGO, 101), (15, 2))
        self.assertEqual(tally.judge("vitest", VITEST, 1), (7, 1))
        self.assertEqual(tally.judge("unittest", "Ran 5 tests in 1s\n\nFAILED (failures=1, errors=1)", 1), (3, 2))
        self.assertEqual(tally.judge("unittest", "Ran 5 tests in 1s\n\nOK", 0), (5, 0))
        self.assertEqual(tally.judge("one", "", 0), (1, 0))

    def test_a_runner_that_says_nothing_has_failed(self):
        for kind in ("cargo", "vitest", "unittest"):
            self.assertEqual(tally.judge(kind, "killed", 0), (0, 1), kind)

    def test_what_was_skipped_has_not_passed(self):
        self.assertEqual(tally.judge("unittest", "Ran 5 tests in 1s\n\nOK (skipped=2)", 0), (3, 0))
        self.assertEqual(tally.judge("cargo", "test result: ok. 4 passed; 0 failed; 3 ignored;", 0), (4, 0))

    def test_a_runner_that_ends_badly_has_failed_whatever_it_counted(self):
        self.assertEqual(tally.judge("cargo", "test result: ok. 12 passed; 0 failed;", 137), (12, 1))

    def test_a_runner_without_tests_has_failed(self):
        self.assertEqual(tally.judge("unittest", "Ran 0 tests in 0s\n\nOK", 0), (0, 1))

    def test_the_last_line_is_the_sum_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "a.log").write_text(CARGO.splitlines()[0])
            (folder / "b.log").write_text("Killed\n")
            (folder / "results.tsv").write_text("a\tcargo\t0\t1\nb\tvitest\t137\t2\n")
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                status = tally.main(folder)
        self.assertEqual((status, said.getvalue().splitlines()[-1]), (1, "12 passed, 1 failed"))
        self.assertIn("Killed", said.getvalue())


if __name__ == "__main__":
    unittest.main()
