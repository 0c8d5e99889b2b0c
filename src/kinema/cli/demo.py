"""`kinema demo --run RUN`: a web page on this machine that says what is seen in a clip, over time."""

import argparse
from collections.abc import Sequence

from kinema.cli.classifier import add_classifier, load_predictor
from kinema.cli.messages import say


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema demo", description=__doc__)
    add_classifier(parser)
    parser.add_argument("--port", type=int, default=7860, help="of 127.0.0.1 (default 7860); 0 for any that is free")
    parser.add_argument("--top", type=int, default=5, help="classes that are shown (default 5)")
    parser.add_argument("--max-mib", type=float, default=64, help="largest file that is taken (default 64)")
    parser.add_argument("--max-seconds", type=float, default=60, help="longest video that is taken (default 60)")
    options = parser.parse_args(arguments[1:])

    from kinema.deployment.demo import Limits, need_port, serve

    try:
        need_port(options.port)
        if options.top < 1:
            raise ValueError(f"--top {options.top} shows nothing; give at least 1")
        limits = Limits(options.max_mib, options.max_seconds)
        predictor = load_predictor(options)
        for note in predictor.notes:
            say(note)
        print(f"weights of {predictor.checkpoint}")
        serve(predictor, port=options.port, limits=limits, top=options.top, ready=_tell)
    except (ValueError, TypeError, OSError, ImportError) as error:
        say(error)
        return 1
    return 0


def _tell(address: str) -> None:
    print(f"open {address} in a browser; end with Ctrl-C", flush=True)
