"""What is counted must not pass for what it is not."""

import unittest

import instructions

ACCEPTED = "# Owns: them.\n# by rustc 1.95.0 for x86_64-unknown-linux-gnu\nencode\t1000\nfan_out\t20000\n"


class Instructions(unittest.TestCase):
    def test_a_number_is_good_within_the_leeway_and_no_further(self):
        accepted, by = instructions.read(ACCEPTED)
        self.assertEqual(by, "rustc 1.95.0 for x86_64-unknown-linux-gnu")
        for now, words in [(1000, None), (1050, None), (950, None), (1051, "5.1% more"), (949, "5.1% fewer")]:
            _, wrong = instructions.compare(accepted, {"encode": now, "fan_out": 20000}, 0.05)
            self.assertEqual(len(wrong), 0 if words is None else 1, now)
            if words:
                self.assertIn(words, wrong[0])

    def test_a_path_that_is_new_or_gone_is_said(self):
        accepted, _ = instructions.read(ACCEPTED)
        _, wrong = instructions.compare(accepted, {"fan_out": 20000, "decode": 5}, 0.05)
        self.assertEqual(wrong, ["encode is not counted any more", "decode is not in server/instructions.tsv"])

    def test_what_was_written_is_read(self):
        self.assertEqual(instructions.read(instructions.written({"a": 1, "b": 2}, "rustc 1 for y")), ({"a": 1, "b": 2}, "rustc 1 for y"))

    def test_a_path_without_its_number_is_an_error(self):
        dump = "desc: Trigger: --dump-after=counted\ntotals: 12\n"
        self.assertEqual(instructions.named(["a", "b"], [dump, dump]), {"a": 12, "b": 12})
        for paths, dumps in [(["a", "b"], [dump]), ([], []), (["a"], ["totals: 0\n"]), (["a"], [""])]:
            with self.assertRaises(ValueError):
                instructions.named(paths, dumps)

    def test_the_tenth_comes_after_the_ninth(self):
        paths = [instructions.COUNTED.with_name(f"counted.{number}") for number in (10, 9, 1)]
        self.assertEqual([path.suffix for path in instructions.in_order(paths)], [".1", ".9", ".10"])


if __name__ == "__main__":
    unittest.main()
