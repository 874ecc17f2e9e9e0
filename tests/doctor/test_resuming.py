from mlm.doctor.resuming import check_resuming


def told(step, total=100, *, known=True, differing=(), changed=()):
    found = check_resuming(step, total, known=known, differing=differing, changed=changed)
    return found.verdict, found.words


def test_where_a_run_goes_on_and_how():
    assert told(0, known=False) == ("ok", "begins at step 0 of 100")
    verdict, words = told(40)
    assert verdict == "ok" and words.startswith("goes on at step 40 of 100; bit for bit")
    assert "trains no more, all 100 steps are done; bit for bit" in told(100)[1]


def test_what_is_not_bit_exact_names_its_causes():
    differing = ["cores 2 -> 1", "jax 0.10.2 -> 0.11.0"]
    verdict, words = told(40, differing=differing, changed=["seed", "text"])
    assert verdict == "warning"
    assert words.endswith(
        "not bit-exact: cores 2 -> 1, jax 0.10.2 -> 0.11.0, changed data (seed, text)"
    )


def test_what_an_older_version_began_is_not_known():
    verdict, words = told(40, known=False)
    assert verdict == "warning" and "not known" in words
