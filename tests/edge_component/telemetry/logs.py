"""For tests: filling a segment log, and reading it out."""

from pathlib import Path

from edge_component.telemetry.segment_log import LogLimits, SegmentLog

SMALL = LogLimits(bytes_max=4_000, segments_count=4, record_bytes_max=1_000)


def put(log: SegmentLog, count: int, size: int = 100) -> list[int]:
    return [log.append(lambda epoch, sequence: f"{epoch}:{sequence}".encode().ljust(size)) for _ in range(count)]


def texts(log: SegmentLog, count: int = 10_000) -> list[str]:
    return [entry.payload.decode().strip() for entry in log.peek(count)]


def drain(log: SegmentLog) -> list[str]:
    seen: list[str] = []
    while entries := log.peek(7):
        seen += [entry.payload.decode().strip() for entry in entries]
        log.acknowledge(entries[-1])
    return seen


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "log").glob("*.segment"))
