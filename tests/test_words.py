"""Words: names and sentences that the glossary refuses, and terms that are found."""

import ast
from pathlib import Path

import pytest

import ddpg_jax

PACKAGE = Path(ddpg_jax.__file__).parent
ROOT = PACKAGE.parent
SOURCES = {path.relative_to(PACKAGE): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {path: ast.parse(text) for path, text in SOURCES.items()}

# The field's word is in docs/glossary.md; these are its refused synonyms, as parameters and fields.
REFUSED = {
    *("obs", "next_obs", "s_tm1", "done", "dones", "mask", "discounting", "polyak", "qf"),
    *("policy_network", "next_q_value", "exploration_noise", "policy_noise", "policy_frequency"),
    *("num_steps", "epochs", "utd", "rng", "numbers", "code", "codes"),
}
# Names that said nothing, or something else, and were given better ones.
GONE = {
    *("Numbers", "coded", "smoothing_noise", "held_out", "Seen", "Several", "first", "Single"),
    *("Making", "View", "take", "kept", "no_sums", "add_up", "added_up", "of_all_shards"),
    *("OFTEN", "SELDOM", "_of_newest"),
}
SENTENCES = (
    "Running sums in float32 that do not stop growing",
    "What is watched",
    "Whether a run can be",
    "What a run's numbers owe",
    "what is more than there is is refused",
    "A member whose numbers break it down",
    "as often as `--draws` says",
    "other values compile nothing",
    "What is no float",
    "stays on whatever the run goes on",
    "Two houses.",
    "and so is no extra here",
    "by where the car is in its lane",
    "nothing is lost, but from here on",
    "begin anew; all else goes on where it was",
    "a sweep goes on with the members that it was begun with",
    "is of no use without --pbt",
    "that is no option of an environment",
)
TERMS = {
    "update-to-data ratio": "runs/options/hyperparameters.py",
    "latent": "networks/vae.py",
    "encoder": "networks/conv.py",
    "soft update": "agents/targets.py",
    "target policy smoothing": "losses.py",
    "n-step": "returns.py",
    "importance weight": "replay/prioritised.py",
    "population-based training": "population/evolution.py",
    "mesh": "sharding.py",
    "compensated sum": "reporting.py",
    "replay ratio": "schedule.py",
    "autoreset": "envs/autoreset.py",
}


def named(tree):
    """``(line, name)`` of each parameter of a public function, and of each field of a class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            yield from ((argument.lineno, argument.arg) for argument in every)
        if isinstance(node, ast.ClassDef):
            fields = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
            yield from ((field.lineno, field.id) for field in fields if isinstance(field, ast.Name))


def defined(tree):
    """``(line, name)`` of each function, class and constant of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        if isinstance(node, ast.Assign):
            yield from (
                (node.lineno, name.id) for name in node.targets if isinstance(name, ast.Name)
            )


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        pytest.param(named, REFUSED, id="parameters and fields"),
        pytest.param(defined, GONE, id="functions, classes and constants"),
    ],
)
def test_names_are_the_fields_words(names, refused):
    found = [
        f"{path}:{line} {name}"
        for path, tree in TREES.items()
        for line, name in names(tree)
        if name in refused
    ]
    assert found == []


def test_sentences_that_told_nothing_are_gone():
    texts = {str(path): text for path, text in SOURCES.items()}
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        texts[path.name] = path.read_text()
    flat = {name: " ".join(text.split()) for name, text in texts.items()}
    found = [(name, each) for name, text in flat.items() for each in SENTENCES if each in text]
    assert found == []


@pytest.mark.parametrize("term", TERMS)
def test_a_term_of_the_field_is_found_where_it_is_defined(term):
    text = " ".join(SOURCES[Path(TERMS[term])].lower().split())
    assert text.count(term)
