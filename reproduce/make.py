"""Make what is missing of a row, a paper's rows, a claim or a figure.

    python -m reproduce.make NAME ...             rows and papers; claim:NAME, figure:NAME
    python -m reproduce.make NAME --seeds 0-9     other seeds than the declared ones
    python -m reproduce.make --hours 8            what decides most claims in that time
    python -m reproduce.make NAME -n              only say what would be run
    python -m reproduce.make --list               rows, claims and figures, their state and cost
    python -m reproduce.make --again ROW          compute a stored run anew, and compare

What is done is not run again. A command that was interrupted or killed goes on when it is given
again.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from reproduce import again, engine
from reproduce.declared import read_all
from reproduce.graph import FIGURES, Graph, Job, Wanted, parse_seeds
from reproduce.words import cost, counted, of_machine
from shared.errors import UserError
from shared.options import check_positive, script
from shared.run import REPOSITORY, read_result


def plan(jobs: Sequence[Job], *, has_gpu: bool = False) -> str:
    """What would be run, with its cost."""
    lines = []
    for job in jobs:
        row = job.row
        goes_on = f", from {row.counted} {job.done} of {row.length}" if job.done else ""
        estimate = "" if row.is_measured else " (estimate)"
        needs = (
            f"{cost(job.minutes_left)}{estimate}, {counted(row.cores, 'core')}, {row.memory_mb} MB"
        )
        lines.append(f"  {job.name:60} {needs}{goes_on}")
    total = cost(sum(job.core_minutes_left for job in jobs))
    return "\n".join([*lines, f"{counted(len(jobs), 'run')}, {total} {of_machine(has_gpu)}"])


def within(hours: float, machine: engine.Machine, graph: Graph, wanted: Wanted | None) -> Wanted:
    """The jobs that decide most claims in a time.

    Args:
        hours: that there are.
        machine: that computes in them.
        graph: of what is declared.
        wanted: its jobs are the only ones that may be chosen; None: all may.

    Raises:
        UserError: no claim can be decided in that time.
    """
    # Here, as in what follows: runs need no statistics, which take seconds of a start.
    from reproduce import budget
    from reproduce.states import stored_results

    results = stored_results()
    waiting = [need for r in graph.reproductions for need in budget.needs(r, results)]
    cores = machine.cores or os.cpu_count() or 1
    allowed = None if wanted is None else wanted.jobs
    chosen = budget.choose(waiting, hours, cores, allowed, machine.gpu_slots)
    if not chosen:
        raise UserError(f"no claim can be decided in {hours:g} hours; --list says what each needs")
    print(f"{counted(len(chosen), 'claim')}: {', '.join(need.claim.name for need in chosen)}")
    jobs = dict.fromkeys(job for need in chosen for job in need.jobs)
    return Wanted(tuple(jobs), tuple(need.claim for need in chosen))


def carry_out(wanted: Wanted, graph: Graph, machine: engine.Machine, is_dry: bool) -> int:
    """Make what is missing, and say what became of claims.

    Returns:
        0, or the engine's exit code where something failed.
    """
    missing = [job for job in graph.with_those_before(wanted.jobs) if not job.is_done]
    figures = [FIGURES / f"{figure.name}.png" for figure in wanted.figures]
    # A figure shows its runs: new ones draw it anew.
    undrawn = [path for path in figures if missing or not (REPOSITORY / path).exists()]
    print(
        plan(missing, has_gpu=machine.has_gpu)
        if missing
        else f"done already: {counted(len(wanted.jobs), 'run')}",
        flush=True,
    )
    for path in undrawn:
        print(f"  {path}", flush=True)
    code = 0
    if missing or undrawn:
        targets = [*(job.kept for job in missing), *undrawn]
        code = engine.make(targets, machine, is_dry=is_dry)
    if code:
        print("not all was made; the same command goes on where it stopped", file=sys.stderr)
    elif wanted.claims and not is_dry:
        from reproduce.states import stored_results
        from reproduce.verdicts import decide

        results = stored_results()
        names = {claim.name for claim in wanted.claims}
        for decision in (d for r in graph.reproductions for d in decide(r, results)):
            if decision.claim.name in names:
                reason = f" ({decision.reason})" if decision.reason else ""
                print(f"claim:{decision.claim.name} {decision.verdict.value}{reason}")
    return code


def compute_again(jobs: Sequence[Job], machine: engine.Machine, is_dry: bool) -> int:
    """Compute stored runs anew below runs/, and print both results.

    Returns:
        0; 1 where a number has moved by more than is stated, or the engine's exit code.

    Raises:
        UserError: there are no jobs.
    """
    if not jobs:
        raise UserError("nothing is stored, so there is nothing to compare with")
    for job in jobs:
        print(f"  {job.name:60} {cost(job.row.minutes)}", flush=True)
    targets = [job.kept_anew for job in jobs]
    code = engine.make(targets, machine, is_dry=is_dry, again=True)
    if code or is_dry:
        return code
    moved = 0
    for job in jobs:
        stored, new = (read_result(REPOSITORY / path) for path in (job.kept, job.kept_anew))
        differences = again.compare(stored, new, job.row)
        print(again.table(stored, new, differences))
        moved += sum(difference.has_moved for difference in differences)
    print(
        f"moved: {counted(moved, 'number')}" if moved else "no number moved by more than is stated"
    )
    return int(moved > 0)


def stored_jobs(graph: Graph, names: Sequence[str], seeds: Sequence[int] | None) -> list[Job]:
    """Of each row the first seed that is stored, or those asked for.

    Raises:
        UserError: a row has no stored run of them.
    """
    found = []
    for name in names:
        jobs = [job for job in graph.select([name], seeds).jobs if job.is_done]
        if not jobs:
            raise UserError(f"nothing is stored of {name}, so there is nothing to compare with")
        found += jobs if seeds else jobs[:1]
    return list(dict.fromkeys(found))


def cheapest(graph: Graph) -> list[Job]:
    """Of each paper the stored job that takes least time."""
    found: dict[str, Job] = {}
    for job in graph.jobs():
        best = found.get(job.paper)
        if (best is None or job.row.minutes < best.row.minutes) and job.is_done:
            found[job.paper] = job
    return list(found.values())


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="row, paper, claim: or figure:")
    parser.add_argument("--seeds", help="such as 3, 0-9 or 0,2,5-7 (default: those of each row)")
    parser.add_argument("--hours", type=float, help="of names, or of all there is, what decides "
                        "most claims in this time")  # fmt: skip
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be run")
    parser.add_argument("--list", action="store_true", help="state and cost of all there is")
    parser.add_argument("--again", nargs="+", metavar="ROW", help="compute stored runs anew")
    parser.add_argument("--nightly", action="store_true", help="--again of each paper's cheapest "
                        "row")  # fmt: skip
    parser.add_argument("--cores", type=int, help="for all jobs together (default: the profile's)")
    parser.add_argument("--resources", nargs="+", default=[], metavar="NAME=N",
                        help="limits for all jobs together, such as gpu_slots=4, by which times "
                        "on a GPU count where rows state them")  # fmt: skip
    parser.add_argument("--profile", default="local", help="local, slurm, kubernetes, or a "
                        "folder (default: %(default)s)")  # fmt: skip
    return parser.parse_args()


def check_one_way(args: argparse.Namespace) -> None:
    """Refuse words that what is asked for would pass over.

    Raises:
        UserError: two ways of asking are mixed, or seeds are those of nothing.
    """
    ways = {
        "--list": args.list,
        "--nightly": args.nightly,
        "--again": bool(args.again),
        "--hours": args.hours is not None,
        "names": bool(args.names),
    }
    given = [way for way, is_given in ways.items() if is_given]
    # Hours choose among names.
    if len(given) > 1 and given != ["--hours", "names"]:
        raise UserError(f"{' and '.join(given)} do not go together: give one of them")
    if args.seeds is not None and not (args.names or args.again):
        raise UserError("--seeds needs names of rows, papers, claims or figures")


def main() -> None:
    """Do what the command line says."""
    args = parsed()
    check_one_way(args)
    check_positive(hours=args.hours, cores=args.cores)
    machine = engine.Machine(args.profile, args.cores, tuple(args.resources))
    reproductions = read_all(has_gpu=machine.has_gpu)
    graph = Graph(reproductions)
    if args.list:
        from reproduce.states import listing, stored_results

        print(listing(reproductions, stored_results(), has_gpu=machine.has_gpu))
        return
    seeds = None if args.seeds is None else parse_seeds(args.seeds)
    if args.nightly or args.again:
        jobs = cheapest(graph) if args.nightly else stored_jobs(graph, args.again, seeds)
        sys.exit(compute_again(jobs, machine, args.dry_run))
    if not args.names and args.hours is None:
        raise UserError("say what: a row, a paper, claim:NAME, figure:NAME or --hours; --list "
                        "shows all names")  # fmt: skip
    wanted = graph.select(args.names, seeds)
    if args.hours is not None:
        wanted = within(args.hours, machine, graph, wanted if args.names else None)
    sys.exit(carry_out(wanted, graph, machine, args.dry_run))


if __name__ == "__main__":
    script(main)
