"""`vjepa2 info`: what this machine offers."""

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Json


def info(json: Json = False) -> None:
    """Show versions, devices, decoders and models at hand.

    \b
    Examples:
      vjepa2 info
      vjepa2 info --json
    """
    with answering(as_json=json) as answer:
        from vjepa2.features.environment import describe_environment

        environment = describe_environment()
        answer.put(environment.as_dict(), text=str(environment))
