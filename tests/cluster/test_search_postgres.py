"""Four workers over one PostgreSQL, started here, killed at random: exactly the budget."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

import launching
import search_kills

pytestmark = pytest.mark.cluster
FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="module")
def url():
    """A server on loopback that lives as long as these tests."""
    pytest.importorskip("psycopg")
    if not FOUND:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql; Debian's package is `postgresql`")
    folder = Path(tempfile.mkdtemp(prefix="tlx-postgres-"))
    as_user = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def do(program, *args):
        command = [*as_user, str(FOUND[-1] / program), "-D", str(folder / "data"), *args]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    port = launching.free_port()
    do("initdb", "-A", "trust", "-U", "tlx", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    do("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://tlx@127.0.0.1:{port}/postgres"
    finally:
        do("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_killed_workers_end_with_the_budget_to_the_trial(url, tmp_path):
    log = tmp_path / "log.txt"
    trials, killed = search_kills.run(url, log, budget=60, kills=30, slow=3, limit_s=200)
    taken_over = search_kills.check(trials, killed, log, budget=60)
    assert len(killed) >= 20
    assert taken_over >= 5


def test_the_lock_of_a_worker_that_is_killed_is_free_at_once(url):
    from tlx.sweeps.search_claims import Postgres

    place = Postgres(url, "locked")
    holder = search_kills.CONTEXT.Process(target=hold, args=(url,))
    holder.start()
    while place.beats("holder") is None:
        time.sleep(0.05)
    began = time.monotonic()
    with place.lock(opening=True):
        pass  # another search's claims go on
    assert time.monotonic() - began < 2
    holder.kill()
    with place.lock():
        assert time.monotonic() - began < 5
    place.leave("holder")
    assert place.beats("holder") is None


def hold(url):
    from tlx.sweeps.search_claims import Postgres

    place = Postgres(url, "locked")
    with place.lock():
        place.beat("holder", 1)
        time.sleep(60)
