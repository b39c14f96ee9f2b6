"""What a scrape shows of the streams: their reports under names that Prometheus knows. Pure.

The failure this exists for: a stream that waits for its camera for a week, and a fleet that sees a healthy device. The
reports are the conductor's (``streams/conductor.py``), which knows no metrics.
"""

from edge_component.observability.exposition import Family, Sample
from edge_component.streams.conductor import StreamReport


def stream_families(reports: tuple[StreamReport, ...]) -> tuple[Family, ...]:
    """Counters and gauges by stream and model."""
    outcomes: list[Sample] = []
    read: list[Sample] = []
    waiting: list[Sample] = []
    held: list[Sample] = []
    for report in reports:
        labels = {"stream": report.config.name, "model": report.config.model}
        counts = report.counts
        for outcome, count in (
            ("delivered", counts.delivered_count),
            ("failed", counts.failed_count),
            ("dropped", counts.dropped_count),
        ):
            outcomes.append(Sample({**labels, "outcome": outcome}, count))
        read.append(Sample(labels, counts.read_count))
        waiting.append(Sample(labels, report.waiting_count))
        held.append(Sample(labels, bool(report.held_by)))
    return (
        Family("edgewright_stream_read_total", "counter", "Samples that a stream's source gave.", read),
        Family("edgewright_stream_samples_total", "counter", "Samples by what became of them.", outcomes),
        Family("edgewright_stream_waiting", "gauge", "Samples that wait for the model.", waiting),
        Family("edgewright_stream_held", "gauge", "1 while a stream waits for source, model or sink.", held),
    )
