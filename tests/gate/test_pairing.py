"""Which pictures of two runs belong together, by the spelling of their names."""

from iqametrics.gate.pairing import pair_names

NFC, NFD = "\u00e9.png", "e\u0301.png"


class TestSpelling:
    def test_composed_and_decomposed_names_are_one(self):
        assert pair_names([NFC, "b"], [NFD, "b"]) == {NFC: NFD, "b": "b"}
        assert pair_names([f"x/{NFD}"], [f"x/{NFC}"]) == {f"x/{NFD}": f"x/{NFC}"}
        assert pair_names([f"old/{NFD}", "old/b"], [f"new/{NFC}", "new/b"])[f"old/{NFD}"] == f"new/{NFC}"

    def test_equal_names_come_before_names_that_look_alike(self):
        assert pair_names([NFC, NFD], [NFD, NFC]) == {NFC: NFC, NFD: NFD}
        assert pair_names([NFC, NFD], [NFD]) == {NFD: NFD}

    def test_names_that_look_alike_twice_are_no_pair(self):
        assert pair_names(["b", NFC], ["b", NFD, "./" + NFD]) == {"b": "b"}

    def test_a_path_may_be_written_in_several_ways(self):
        assert pair_names(["=1.png", "a//b"], ["./=1.png", "a/b"]) == {"=1.png": "./=1.png", "a//b": "a/b"}
