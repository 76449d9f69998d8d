"""``python -m benchmarks``: all figures as a Markdown table."""

from benchmarks import dispatch, failover, latency, memory, throughput

ROWS = (throughput.rows, latency.rows, dispatch.rows, memory.rows, failover.rows)

print("| figure | measured | peer or limit in the same run | ratio |")
print("|---|---|---|---|", flush=True)
for rows in ROWS:
    for row in rows():
        print(f"| {' | '.join(row)} |", flush=True)
