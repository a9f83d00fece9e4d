# moto, which plays AWS, on a loopback port of its own choice. Prints one line of JSON when it
# listens and ends when its stdin does, so that it cannot outlive the test that started it.
import json
import sys

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(json.dumps({"origin": f"http://{host}:{port}"}), flush=True)
sys.stdin.read()
server.stop()
