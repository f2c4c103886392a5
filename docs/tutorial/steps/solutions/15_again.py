"""Chapter 15: a UDP client that asks again, three times at most."""

import socket


def ask(client, question):
    for _ in range(3):
        client.send(question)
        try:
            while (answer := client.recv(65535)) != question:
                pass  # a late answer to an earlier question
        except OSError:  # no answer within a second, or no such port
            print("nothing yet")
        else:
            return answer
    return None


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(1)
    client.connect(("127.0.0.1", 1234))
    answer = ask(client, b"hola mundo...")
    print(answer.decode() if answer else "nobody answers")
