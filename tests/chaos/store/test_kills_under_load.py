"""Kill -9 at random moments while several clients write: two hundred times on one lake."""

import random
import threading
import time

import httpx
import pytest

from storage.embedded.upkeep.check import check

ROUNDS, WRITERS = 200, 4


def write(http: httpx.Client, name: str, acknowledged: list[str]) -> None:
    """Put and commit until the server is gone, noting each key that was acknowledged."""
    main = "/repositories/repo/branches/main"
    try:
        for number in range(100_000):
            key = f"{name}-{number}"
            answer = http.post(f"{main}/objects", params={"path": key}, content=key.encode() * 50)
            if answer.status_code == 201:
                acknowledged.append(key)
            if number % 5 == 4:
                http.post(f"{main}/commits", json={"message": key})
    except httpx.HTTPError:
        return


def killed_under_load(store, dice: random.Random, name: str) -> list[str]:
    acknowledged: list[str] = []
    enough = dice.randint(1, 60)
    with store.client() as http:
        threads = [
            threading.Thread(target=write, args=(http, f"{name}-{number}", acknowledged))
            for number in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        while len(acknowledged) < enough:
            time.sleep(dice.uniform(0, 0.01))
        store.process.kill()
        for thread in threads:
            thread.join(60)
    store.killed()
    return acknowledged


def kill_often(store, rounds: int) -> None:
    dice = random.Random(rounds)
    store.start()
    with store.client() as http:
        body = {"name": "repo", "storage_namespace": "local://repo"}
        assert http.post("/repositories", json=body).status_code == 201
    for number in range(rounds):
        acknowledged = killed_under_load(store, dice, f"round-{number}")
        store.start()
        with store.client() as http:
            for key in acknowledged:
                found = http.get("/repositories/repo/refs/main/objects", params={"path": key})
                assert (found.status_code, found.content) == (200, key.encode() * 50)
    store.stop()
    report = check(store.root, deep=True)
    assert report.is_sound, report.problems


@pytest.mark.long
def test_two_hundred_random_kills_lose_nothing_acknowledged(store):
    kill_often(store, ROUNDS)
