"""Which call a command means when it is not told."""

from __future__ import annotations

from collections.abc import Sequence

from bin.control_client import Control
from bin.errors import ProgramError
from bin.reports import CallsReport

__all__ = ["pick_call"]


async def pick_call(
    control: Control, call_id: str | None, states: Sequence[str]
) -> str:
    """Give the call that was named, or else the only one in one of these states.

    An incoming call only, where the state is `ringing` alone.
    """
    if call_id is not None:
        return call_id
    report = await control.ask("calls", CallsReport)
    fitting = [
        call
        for call in report.calls
        if call.state in states and (call.incoming or tuple(states) != ("ringing",))
    ]
    if len(fitting) == 1:
        return fitting[0].id
    wanted = " or ".join(states)
    if not fitting:
        raise ProgramError.of("612", f"no call is {wanted}")
    which = ", ".join(f"{call.id} ({call.peer})" for call in fitting)
    raise ProgramError.of("805", f"several calls are {wanted}, name one: {which}")
