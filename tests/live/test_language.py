"""What somebody who speaks Spanish reads when a role cannot run: the same exit code, and text and advice in Spanish."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cbw
from cbw.cli.services import LISTED_COLUMNS
from tests.live.conftest import Broker, Connect, Start, StartBroker, StartWorker, broker_of
from tests.live.program import Program, environment, wait_until
from tests.live.terminal import run_on_a_terminal

TIME_S = 30.0
"""For a command that ends by itself, on a machine that is busy."""


def run(*arguments: str, language: str, **variables: Any) -> tuple[int, str]:
    program = Program(*arguments, CBW_LANG=language, **variables)
    try:
        code = program.exit_code(within_s=TIME_S)
    finally:
        program.kill()
    text = "\n".join((*program.errors, *program.lines))
    assert "Traceback" not in text
    return code, text


def in_both(*arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code, which is that of the same in English, and what is printed in Spanish."""
    english, text = run(*arguments, language="en", **variables)
    code, spanish = run(*arguments, language="es", **variables)
    assert code == english and spanish != text, (text, spanish)
    return code, spanish


def test_a_port_that_is_used() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        code, text = in_both("broker", str(port), "0")
    assert code == 3
    assert f"cbw: el puerto {port} está en uso" in text and "o indica otro puerto." in text


def test_a_port_that_a_role_of_a_whole_system_needs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, text = in_both("up", "--client-port", str(port), "--scale", "cli=0")
    assert code == 3 and f"no ha arrancado: el puerto {port} está en uso" in text
    assert "o indica otros: --client-port" in text


def test_a_name_that_does_not_resolve() -> None:
    code, text = in_both("client", "C1", "1", "broker.invalid", "9998", "--timeout", "0.5")
    assert code == 3
    assert "el anfitrión del bróker, 'broker.invalid', no se resuelve: " in text
    assert "Revisa BROKER_HOST, o el argumento con el anfitrión." in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("broker", "--nonsense"), "Error: No existe la opción '--nonsense'."),
        (
            ("broker", "99x"),
            "Error: Valor no válido para '[FRONTEND_PORT]': '99x' no es un valor válido de tipo entero.",
        ),
        (("client", "--timeout"), "Error: La opción '--timeout' necesita un argumento."),
        (("brokr",), "Error: No existe la orden 'brokr'. ¿Querías decir 'broker'?"),
        (("broker", "9998", "9998"), "Error: clientes y trabajadores necesitan dos puertos, no 9998 para los dos."),
        (
            ("client", "C1", "1", ""),
            "Error: ¿dónde está el bróker? Indica su anfitrión como argumento, o define BROKER_HOST",
        ),
        (
            ("up", "--scale", "x=1"),
            "Error: Valor no válido para --scale: 'x' no es un servicio; hay cli, wor, bro, log",
        ),
        (("worker", "W1", "localhost", "9", "--handler", "no:f"), "cbw: no:f: no existe el módulo 'no'"),
    ],
)
def test_arguments_that_make_no_sense(arguments: tuple[str, ...], expected: str) -> None:
    code, text = in_both(*arguments)
    assert code == 2 and expected in text


def test_a_missing_key_file(tmp_path: Path) -> None:
    code, text = in_both("broker", "0", "0", "--keys", str(tmp_path / "none"))
    assert code == 2 and f"no hay ninguna carpeta de claves en {tmp_path / 'none'}" in text and "Crea una: " in text
    code, text = in_both("broker", "0", "0", "--keys", str(tmp_path / "broker.key_secret"))
    assert code == 2
    assert f"no se puede leer el fichero de clave {tmp_path / 'broker.key_secret'}: No existe el fichero" in text
    assert "Da a --keys la carpeta que creó `cbw keys new`" in text


def test_a_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    code, text = in_both("broker", "0", "0", "--journal", "/proc/no/journal")
    assert code == run("broker", "0", "0", "--journal", "/proc/no/journal", language="en")[0]
    assert "no se puede abrir: " in text and f"en la que el usuario {os.geteuid()} pueda escribir." in text
    (tmp_path / "file").write_text("")
    _, text = in_both("broker", "0", "0", "--journal", str(tmp_path / "file"))
    assert f"{tmp_path / 'file'} es un fichero" in text and "Da otra carpeta, o quita ese fichero de ahí." in text


def test_where_a_broker_should_be_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        code, text = in_both("call", "--broker", place, "--timeout", "0.3")
        assert code == 3 and f"ningún bróker en {place} en 0.3 s: escucha algo que no dice nada" in text
        assert f"Qué falla en el camino hasta él: cbw doctor {place}" in text
        code, text = in_both("doctor", place)
    assert (
        code == 1 and "no habla ZeroMQ: escucha algo que no dice nada" in text and "indica el puerto del bróker" in text
    )


def test_what_programs_read_is_english() -> None:
    code, text = run("call", "--broker", "127.0.0.1:1", "--timeout", "0.3", "--json", language="es")
    assert code == 3
    assert '"error":"NoAnswer"' in text and "no broker at 127.0.0.1:1 in 0.3 s: nothing listens" in text


def test_what_is_raised_in_a_program_is_english() -> None:
    program = "import cbw\ntry: cbw.Broker(port, 0)\nexcept cbw.CannotBind as error: print(error, '/', error.advice)"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", f"port = {port}\n{program}"]
        variables = environment(CBW_LANG="es")
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=True, timeout=TIME_S)
    assert done.stdout.startswith(f"port {port} is in use / Stop what listens there")


def table(*arguments: str) -> list[list[str]]:
    """The cells of what a command shows on a terminal to somebody who speaks Spanish, line by line."""
    code, shown = run_on_a_terminal(*arguments, CBW_LANG="es", COLUMNS="200")
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    return [[cell.strip() for cell in re.split(r" {2,}|[│┃]", line)] for line in plain.splitlines()]


def test_tables_on_a_terminal_are_in_spanish_and_lines_for_programs_are_not(
    broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    start_worker("W1", "render=hang")
    client = connect(broker)
    for service in ("render", "render", "nobody"):
        client.submit("30", service)
    at = ("--broker", broker.address)
    wait_until(lambda: "nobody" in run("requests", *at, language="en")[1], "the broker has all")
    shown = [cell for line in table("ps", *at) for cell in line]
    for words in ("servicio", "trabajador", "estado", "ritmo", "fallos", "ocupado", "nadie lo atiende"):
        assert words in shown, (words, shown)
    assert any(" desde hace " in cell for cell in shown)
    shown = [cell for line in table("requests", *at) for cell in line]
    assert {"petición", "en curso", "espera", "intento"} <= set(shown), shown
    assert "3 de 3 peticiones; cbw why PETICIÓN dice más de una" in shown
    heading = next(line for line in table("services", *at) if "servicio" in line)
    assert len(heading) >= len(LISTED_COLUMNS) and "esperan" in heading
    shown = [cell for line in table("dead", "list", *at) for cell in line]
    assert "hace" in shown and "0 de 0 peticiones abandonadas" in shown
    for command in ("ps", "requests", "services"):
        code, spanish = run(command, *at, language="es")
        assert code == 0 and "\t" in spanish and "ocupado" not in spanish and "nadie" not in spanish
        assert run(command, *at, "--json", language="es")[1].startswith(("{", "["))


def test_a_verification_is_told_in_spanish(start: Start, tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    broker_of(start("broker", 0, 0, "--trace", trace)).program.terminate()
    code, text = in_both("verify", "--trace", str(trace))
    assert code == 0
    assert "no visto   own-replies            en esta traza no hay registros de ningún cliente" in text
    english, json_text = run("verify", "--trace", str(trace), "--json", language="es")
    assert english == 0 and json_text == run("verify", "--trace", str(trace), "--json", language="en")[1]


def test_figures_of_the_log_are_in_spanish(start: Start, tmp_path: Path) -> None:
    trace = tmp_path / "logs"
    broker_of(start("broker", 0, 0, "--trace", trace)).program.terminate()
    code, text = in_both("logs", "stats", str(trace))
    assert code == 0
    assert "peticiones   ninguna; el bróker las envía con --log-level debug" in text and "log          completo" in text
    code, text = in_both("logs", "stats", str(trace), "--until", "2001-01-01")
    assert code == 0 and text == "ningún registro en ese tiempo"


def test_what_was_done_to_a_broker(broker: Broker, connect: Connect, start_worker: StartWorker) -> None:
    client, place = connect(broker, id="C1"), ("--broker", broker.address)
    start_worker("W1", "s=echo", at=broker)
    client.submit(b"1", "unserved")
    client.submit(b"2", "unserved")
    wait_until(lambda: "C1/2" in run("requests", *place, language="en")[1], "both are there")
    for arguments, printed in (
        (("why", "C1/1"), "C1/1: aquí ningún trabajador atiende 'unserved'"),
        (("pause", "unserved"), "en pausa: unserved"),
        (("why", "C1/1"), "C1/1: el servicio unserved está en pausa; cbw resume lo reanuda"),
        (("resume", "unserved"), "1 servicio reanudado"),
        (("drain", "W1"), "1 trabajador vaciado"),
        (("undrain", "W1"), "1 trabajador reactivado"),
        (("cancel", "C1/1"), "1 petición cancelada"),
        (("purge", "unserved", "--yes"), "1 petición eliminada"),
        (("dead", "drop", "--all"), "0 peticiones abandonadas eliminadas"),
    ):
        code, text = run(*arguments, *place, language="es")
        assert (code, text.strip()) == (0, printed)


def test_the_story_of_a_dead_letter(start_broker: StartBroker, connect: Connect, start_worker: StartWorker) -> None:
    broker = start_broker("--attempts-max", 1)
    start_worker("W1", "s=crash", at=broker)
    with pytest.raises(cbw.GaveUp):
        connect(broker, id="C1").call(b"exit", "s")
    name = run("dead", "list", "--broker", broker.address, language="es")[1].partition("\t")[0]
    code, text = run("dead", "show", name, "--broker", broker.address, language="es")
    first, service, request, gave_up, attempt, body, *_ = text.splitlines()
    assert code == 0 and first == f"petición abandonada {name}" and service.split() == ["servicio", "s"]
    assert request.startswith("  petición    C1/1, aceptada hace ") and body == "  cuerpo      4 bytes"
    assert gave_up.startswith("  abandonada  hace ") and ": 1 worker" not in gave_up, gave_up
    assert attempt.startswith("  intento 1 de W1, empezado hace ") and ": fallido" not in attempt
    text = run("why", "C1/1", "--broker", broker.address, language="es")[1]
    assert text.startswith("C1/1: se abandonó hace ") and "  entregada W1\n" in text, text
