"""The servers that peers need, as they are started here: on ports of their own, for this machine only, all data in a folder."""

from __future__ import annotations

from pathlib import Path

from benchmarks.faults.system import HOST, Command

RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""The program itself. The one in ``/usr/sbin`` changes to the user ``rabbitmq`` and leaves the environment behind."""


def redis(folder: Path, port: int) -> Command:
    """Redis that answers a write when it is on disk.

    ``appendonly yes`` and ``appendfsync always``: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
    """
    data = folder / "redis"
    data.mkdir(exist_ok=True)
    arguments = ["redis-server", "--port", str(port), "--bind", HOST, "--dir", str(data), "--save", ""]
    return Command([*arguments, "--appendonly", "yes", "--appendfsync", "always"], port=port)


def nats(folder: Path, port: int) -> Command:
    """NATS with JetStream in a folder.

    A stream is in files by default. The server hands each write to the operating system before it confirms it, which survives
    SIGKILL, and syncs every two minutes, which does not survive a power loss: https://docs.nats.io/nats-concepts/jetstream
    """
    return Command(["nats-server", "-a", HOST, "-p", str(port), "-js", "-sd", str(folder / "nats")], port=port)


def epmd(port: int) -> Command:
    """Erlang's name server, which RabbitMQ would otherwise start itself and leave running."""
    return Command(["epmd", "-address", HOST, "-port", str(port)], port=port)


def rabbitmq(folder: Path, port: int, distribution_port: int, epmd_port: int) -> Command:
    """RabbitMQ with its defaults. Durable queues with persistent messages are what its clients declare.

    The variables: https://www.rabbitmq.com/docs/configure#supported-environment-variables
    """
    environment = {
        "HOME": str(folder),  # Erlang's cookie is there
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_NODENAME": f"cbw-faults-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    (folder / "plugins").write_text("[].\n")
    return Command([RABBITMQ], environment, port)
