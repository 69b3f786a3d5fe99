"""Plants one defect after another in the code of alignment, and says which test finds each. Usage: python3 tests/planted_defects.py [--core]

Every row of DEFECTS is a patch of one line: in the text of a file the part between ‹ and › is replaced. A scratch copy gets all of them at once, each
behind a switch, so that it is built only once; then the tests that a row names run with its defect alone. Without any defect they pass, which is seen
first. Objectives are tested on a copy of core alone, which is built in seconds, the trainer on a copy of everything.

    --core          objectives alone
    --short         the first defect of every file
    --only WORD     defects whose name has this word
    --scratch DIR   where the copy and its build go (target/planted); a second run builds only what has changed
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RL, POLICY, ALIGN = "core/src/rl", "std-runtime/src/align/policy", "std-runtime/src/align"

# (defect, file, ‹what is replaced› in its line, by what, suite whose tests are to find it, or SUITE::those whose name has this word)
DEFECTS = [
    ("PPO: sign of the surrogate", f"{RL}/ppo.rs", "let whole = ‹-(advantage * ratio)›;", "advantage * ratio", "rl"),
    ("PPO: the upper bound is 1 + low", f"{RL}/ppo.rs", "R::ONE - self.low, ‹R::ONE + self.high›)", "R::ONE + self.low", "rl"),
    ("PPO: the smaller loss decides", f"{RL}/ppo.rs", "if ‹clipped > whole› {", "clipped < whole", "rl"),
    ("PPO: the ratio is old to new", f"{RL}/ppo.rs", "let log_ratio = ‹token.logprob - token.old›;", "token.old - token.logprob", "rl"),
    ("PPO: dual clip for gains", f"{RL}/ppo.rs", "Some(c) if ‹advantage < R::ZERO› &&", "advantage > R::ZERO", "rl"),
    ("REINFORCE: sign", f"{RL}/reinforce.rs", "if live { ‹(-(advantage * logprob), -advantage)› }", "(advantage * logprob, advantage)", "rl"),
    ("CISPO: weights are not clipped", f"{RL}/cispo.rs", "*token.gradient = -(‹weight› * token.advantage);", "ratio", "rl"),
    ("GSPO: the ratio is a sum", f"{RL}/gspo.rs", "SequenceRatio::Mean { ‹total / length› } else { total };", "total", "rl"),
    ("approxkl: without the half", f"{RL}/ratio.rs", "self.share(‹self.squares.value() * R::from_f64(0.5)›)", "self.squares.value()", "rl"),
    ("k1: sign", f"{RL}/kl.rs", "Self::K1 => ‹(x, R::ONE)›,", "(-x, -R::ONE)", "rl"),
    ("k3: of the other KL", f"{RL}/kl.rs", "return ‹(-x).exp() - R::ONE + x›;", "x.exp() - R::ONE - x", "rl"),
    ("k3: gradient of k2", f"{RL}/kl.rs", "Self::K3 => (k3(x), ‹-exp_m1(-x)›),", "x", "rl"),
    ("sequence k2: gradient of each token", f"{RL}/kl.rs", "*gradient = if live { ‹total› } else", "total / R::from_usize(mask.row_len())", "rl"),
    ("GAE: value of the token instead of the next", f"{RL}/gae.rs", "reward + how.gamma * ‹next_value› - value;", "value", "rl"),
    ("GAE: λ is left out", f"{RL}/gae.rs", "delta + ‹how.gamma * how.lambda› * next_advantage;", "how.gamma", "rl"),
    ("GAE: returns of one step", f"{RL}/gae.rs", "(*advantage, *to) = (next_advantage, ‹next_advantage + value›);", "delta + value", "rl"),
    ("returns: the reward of the next token", f"{RL}/gae.rs", "next = reward + gamma * next;\n                *to = ‹next›;", "next - reward", "rl"),
    ("whitening: biased variance", f"{RL}/whiten.rs", "Variance::Unbiased => (2, ‹count.saturating_sub(1)›),", "count", "rl"),
    ("whitening: keeps the mean", f"{RL}/whiten.rs", "if ‹how.shift_mean› { R::ZERO }", "!how.shift_mean", "rl"),
    ("whitening: padding counts", f"{RL}/whiten.rs", "filter(|(_, live)| ‹**live›).map(|(&x, _)| x);", "**live || true", "rl"),
    ("score: behind the last token", f"{RL}/token_rewards.rs", "ScoreAt::Eos => ‹length.saturating_sub(1).min(last)›,", "length.min(last)", "rl"),
    ("score: one token early", f"{RL}/token_rewards.rs", "ScoreAt::EosPlusOne => ‹length.min(last)›,", "length.saturating_sub(1)", "rl"),
    ("missing EOS: punishes what ended", f"{RL}/token_rewards.rs", "MissingEos::Subtract(penalty) if ‹!ended› =>", "ended", "rl"),
    ("KL penalty: sign", f"{RL}/token_rewards.rs", "if position < penalised { ‹-(self.beta * kl)› }", "self.beta * kl", "rl"),
    ("KL penalty: one token too few", f"{RL}/token_rewards.rs", "*reward = if ‹position < penalised› {", "position + 1 < penalised", "rl"),
    ("mean over tokens: of each row", f"{RL}/aggregate.rs", "Aggregation::TokenMean => ‹tokens›,", "sequences * R::from_usize(count(live).max(1))", "rl"),
    ("constant: by the row's own length", f"{RL}/aggregate.rs", "sequences * R::from_usize(‹totals.length›),", "count(live).max(1)", "rl"),
    ("value clip: the smaller loss decides", f"{RL}/value.rs", "if ‹limited > whole› {", "limited < whole", "rl"),
    ("value clip: around the return", f"{RL}/value.rs", "clamp(value, ‹old - clip›, old + clip);", "target - clip", "rl"),
    ("leave-one-out: the mean of all", f"{RL}/groups/rloo.rs", "(sum(members()) - reward) / R::from_usize(‹others›))", "others.saturating_add(1)", "rl"),
    ("GRPO: ε under the root", f"{RL}/groups/advantages.rs", "Scale::Group => ‹Moments::of(\"group\", how.variance, members())?.variance.sqrt() + how.std_epsilon›,", "(Moments::of(\"group\", how.variance, members())?.variance + how.std_epsilon).sqrt()", "rl"),
    ("DAPO: whole answers are masked", f"{RL}/groups/dapo.rs", "zip(ended).filter(|(_, ended)| ‹!**ended›)", "**ended", "rl"),
    ("DAPO: the penalty starts at the limit", f"{RL}/groups/dapo.rs", "length.saturating_sub(‹self.limit.saturating_sub(self.buffer)›)", "self.limit", "rl"),
    ("KL controller: the wrong way", f"{RL}/controller.rs", "clamp(‹kl / target - R::ONE›, -limit, limit);", "R::ONE - kl / target", "rl"),
    ("entropy: is made small", f"{RL}/entropy.rs", "*gradient = ‹-(coefficient * weight)›;", "coefficient * weight", "rl"),
    ("DPO: sign of the reference", f"{RL}/pairs/pair.rs", "(‹self.policy_chosen - self.reference_chosen›,", "self.policy_chosen + self.reference_chosen", "rl"),
    ("DPO: references swapped", f"{RL}/pairs/pair.rs", "self.policy_rejected - ‹self.reference_rejected›)", "self.reference_chosen", "rl"),
    ("IPO: sums for means", f"{RL}/pairs/ipo.rs", "squared(self.beta, &‹pair.per_token()›).per_token(pair)", "*pair", "rl"),
    ("IPO: target 1/β", f"{RL}/pairs/ipo.rs", "pair.delta() - R::ONE / ‹(beta + beta)›;", "beta", "rl"),
    ("ORPO: log-probs for log-odds", f"{RL}/pairs/orpo.rs", "(‹p - log1mexp(p)›, R::ONE", "p", "rl"),
    ("SimPO: sign of the margin", f"{RL}/pairs/cpo.rs", "let x = ‹self.beta * (means.policy_chosen - means.policy_rejected) - self.margin›;", "self.beta * (means.policy_chosen - means.policy_rejected) + self.margin", "rl"),
    ("robust DPO: divided by 1 − ε", f"{RL}/pairs/dpo.rs", "let trusted = ‹right - wrong›;", "right", "rl"),
    ("label smoothing: the same side twice", f"{RL}/number.rs", "epsilon * log_sigmoid(‹-x›));", "x", "rl"),
    ("KTO: the KL may be negative", f"{RL}/kto.rs", "Ok(‹mean.max(R::ZERO)›)", "mean", "rl"),
    ("KTO: sign of the KL", f"{RL}/kto.rs", "how.beta * ‹(policy - reference - reference_point)›;", "(policy - reference + reference_point)", "rl"),
    ("ranking: the worst is the best", f"{RL}/rewards/kway.rs", "filter(|(j, _)| ‹ranks.at(i) < ranks.at(*j)›)", "ranks.at(i) > ranks.at(*j)", "rl"),
    ("ranking: mean over completions", f"{RL}/rewards/kway.rs", "R::ONE / R::from_usize(‹pairs›);", "scores.len()", "rl"),
    ("PPO-ptx: sign", f"{RL}/ptx.rs", "gradients.fill(‹-how.coefficient›);", "how.coefficient", "rl"),
    ("trainer: temperature is left out", f"{POLICY}/objective.rs", "let temperature = ‹self.spec.rollout.temperature›;", "1.0", "closed_form::reports"),
    ("trainer: the last token does not count", f"{POLICY}/advantages.rs", "map(move |i| ‹i < length + extra›)", "i + 1 < length + extra", "closed_form::losses"),
    ("trainer: log-probs of the token behind", f"{POLICY}/rollout.rs", "map(|i| ‹episode.prompt - 1 + i›));", "episode.prompt + i", "closed_form::losses"),
    ("trainer: the reference is the policy", f"{POLICY}/rollout.rs", "built.reference_program.forward(session, ‹built.reference›, &self.rows)?", "built.policy", "alignment::a_policy_reaches"),
    ("trainer: draws of every step are the same", f"{POLICY}/rollout.rs", "&numbers, ‹step.step * self.spec.episodes as u64›, &step.stop)?;", "0", "closed_form::reports"),
    ("trainer: EOS is not seen", f"{POLICY}/episodes.rs", "any(|token| ‹options.stops.contains(token)›);", "!options.stops.contains(token)", "closed_form::reports"),
    ("trainer: ratio to the reference", f"{POLICY}/update.rs", "old_logprobs: ‹&batch.logprobs›, advantages", "&batch.reference", "closed_form::draws"),
    ("trainer: KL of padding", f"{POLICY}/advantages.rs", "filter(|(_, live)| ‹!**live›).for_each(|(x, _)| *x = 0.0);\n        Ok(values)", "false", "closed_form::losses"),
    ("trainer: KL of a sequence is a mean", f"{POLICY}/advantages.rs", "beta * ‹kl.iter().sum::<f32>()›)", "(kl.iter().sum::<f32>() / kl.len() as f32)", "alignment::a_policy_reaches"),
    ("trainer: gradients of micro-batches are not added", f"{POLICY}/update.rs", "if ‹micro == 0› { Gradients::Overwrite }", "micro < 9", "alignment::rollouts_and_updates"),
    ("trainer: the coefficient stays", f"{POLICY}/objective.rs", "self.lasting = ‹self.next›;", "self.lasting", "closed_form::the_coefficient"),
    ("reward model: the score of the prompt", f"{POLICY}/rewards.rs", "self.batch.push(&episode.tokens, ‹episode.tokens.len().checked_sub(1)›)", "episode.prompt.checked_sub(1)", "alignment::rewards_are_scores"),
    ("pairs: references of the two are swapped", f"{ALIGN}/pairs.rs", "else { ‹sides(numbers.reference)› };", "{ let [chosen, rejected] = sides(numbers.reference); [rejected, chosen] }", "alignment::losses_of_pairs"),
    ("pairs: gradients of rows are swapped", f"{ALIGN}/pairs.rs", "flat_map(|(&a, &b)| ‹[a, b]›)", "[b, a]", "alignment::adapters_have"),
    ("KTO: the KL of a row's own completion", f"{ALIGN}/unpaired.rs", "&all[‹partners[number]›].completion", "number", "alignment::kto_compares"),
    ("completions: the token itself is picked", f"{ALIGN}/completion.rs", "filter_map(|(i, _)| ‹i.checked_sub(1)›)", "Some(i)", "alignment::what_is_learnt"),
    ("sampler: temperature is left out", "core/src/decode.rs", "*z = fast::exp((*z - max) * ‹scale›);", "1.0", "closed_form::reports"),
    ("sampler: log-prob of the wrong token", "std-runtime/src/decoding/texts.rs", "relative.get(‹token as usize›)", "0", "closed_form::reports"),
    ("sampler: draws depend on the slot", "std-runtime/src/decoding/texts.rs", "Draws::new(self.options.seed, self.options.first_row.wrapping_add(‹number as u32›));", "slot as u32", "alignment::rollouts_and_updates"),
    ("LoRA: α is not divided by r", "std-runtime/src/model/adapters.rs", "self.alpha / ‹if self.by_root { rank.sqrt() } else { rank }›", "1.0", "lora::the_scale"),
]

SWITCH = """
/// Which planted defect is on.
pub mod planted {
    extern crate std;

    /// Whether it is this one.
    pub fn on(number: usize) -> bool {
        static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let chosen = || std::env::var("PLANTED").ok().and_then(|number| number.parse().ok()).unwrap_or(0);
        *CHOSEN.get_or_init(chosen) == number
    }
}
"""


def copied():
    """The files that Git knows, as they are here."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    return {name: (ROOT / name).read_bytes() for name in names}


def planted(files):
    """Every defect behind its switch."""
    files["core/src/lib.rs"] += SWITCH.encode()
    for number, (name, path, line, new, _) in enumerate(DEFECTS, start=1):
        before, rest = line.split("‹")
        old, after = rest.split("›")
        text = files[path].decode()
        if text.count(before + old + after) != 1:
            sys.exit(f"{path}: expected \"{before}{old}{after}\" once, found it {text.count(before + old + after)} times; mend the row \"{name}\" of DEFECTS")
        switch = "crate" if path.startswith("core/") else "samara_core"
        either = f"(if {switch}::planted::on({number}) {{ {new} }} else {{ {old} }})"
        files[path] = text.replace(before + old + after, before + either + after).encode()
    return files


def cut(files):
    """What tests of objectives need: core, those tests but for the ones that run the binary, and their golden files."""
    kept = ("core/", "tests/tests/rl/", "tests/golden/rl/", "tests/src/golden.rs", "tests/Cargo.toml", "Cargo.", "rust-toolchain")
    files = {name: data for name, data in files.items() if name.startswith(kept)}
    files["Cargo.toml"] = re.sub(rb'members = \[.*\]', b'members = ["core", "tests"]', re.sub(rb"default-members = .*\n", b"", files["Cargo.toml"]), count=1)
    manifest = files["tests/Cargo.toml"].decode().split("# Without a harness")[0]
    files["tests/Cargo.toml"] = re.sub(r"^samara(-cuda)?\.workspace.*\n", "", manifest, flags=re.M).encode()
    files["tests/src/lib.rs"] = b"pub mod golden;\n"
    files["tests/tests/rl/main.rs"] = files["tests/tests/rl/main.rs"].replace(b"mod command;\n", b"")
    return files


def written(files, to):
    for name, data in files.items():
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # What has not changed keeps its time, so that Cargo builds no more than it must.
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)


def built(scratch, target, suites):
    """The test binaries, by the names of their files."""
    command = ["cargo", "test", "--quiet", "--no-run", "--message-format=json-render-diagnostics", "--manifest-path", str(scratch / "Cargo.toml"), "--workspace"]
    for suite in suites:
        command += ["--test", suite]
    output = subprocess.run(command, capture_output=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    if output.returncode != 0:
        sys.exit(f"{output.stderr.decode()}\nthe copy with the defects does not build")
    artifacts = [json.loads(row) for row in output.stdout.decode().splitlines() if row.startswith("{")]
    return {a["target"]["name"]: a["executable"] for a in artifacts if a.get("executable") and a["target"]["kind"] == ["test"]}


def failures(binary, scratch, number, word=""):
    """The tests of a binary that fail with a defect. Those that run the binary `samara`, by their names, are left out: they would build it."""
    output = subprocess.run(
        [binary, *filter(None, [word]), "--skip", "command"], cwd=scratch / "tests", env={**os.environ, "PLANTED": str(number)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    found = re.findall(r"^test (\S+) \.\.\. FAILED$", output.stdout.decode(errors="replace"), re.M)
    return found or (["(the process ended)"] if output.returncode != 0 else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--scratch", type=Path, default=ROOT / "target/planted")
    arguments = parser.parse_args()
    chosen, seen = [], set()
    for number, row in enumerate(DEFECTS, start=1):
        if arguments.only in row[0] and not (arguments.short and row[1] in seen) and (row[4] == "rl" or not arguments.core):
            chosen.append((number, row))
            seen.add(row[1])
    binaries, begun = {}, time.monotonic()
    wanted = {row[4].split("::")[0] for _, row in chosen}
    for folder, suites in [("core", wanted & {"rl"}), ("all", wanted - {"rl"})]:
        copy = arguments.scratch / folder
        if suites:
            files = planted(copied())
            written(cut(files) if folder == "core" else files, copy)
            binaries |= {suite: (binary, copy) for suite, binary in built(copy, arguments.scratch / "target", suites).items()}
    print(f"{len(DEFECTS)} defects planted, built in {time.monotonic() - begun:.0f} s", flush=True)
    begun, used = time.monotonic(), os.times().children_user
    for suite, word in sorted({tuple(row[4].partition("::")[::2]) for _, row in chosen}):
        if wrong := failures(*binaries[suite], 0, word):
            sys.exit(f"without a defect {suite} fails already: {wrong}")
    escaped = []

    def found_by(of, number):
        suite, _, word = of.partition("::")
        return failures(*binaries[suite], number, word)

    # A process for every core: most tests take one.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        all_found = list(pool.map(lambda row: found_by(row[1][4], row[0]), chosen))
    for (_, (name, path, _, _, of)), found in zip(chosen, all_found):
        suite = of.partition("::")[0]
        print(f"| {name} | {path} | {suite}: {found[0]}{f' and {len(found) - 1} more' if len(found) > 1 else ''} |" if found else f"| {name} | {path} | **not found** |", flush=True)
        escaped += [] if found else [name]
    used = os.times().children_user - used
    print(f"{len(chosen) - len(escaped)} of {len(chosen)} found, {time.monotonic() - begun:.0f} s after the build, {used:.0f} s of processors")
    sys.exit(f"not found: {', '.join(escaped)}" if escaped else 0)


if __name__ == "__main__":
    main()
