"""The same application for WSGI and ASGI: GET says who served whom, POST echoes the body."""
import os


def answer(method, peer, body):
    return body if method == "POST" else f"{os.getpid()} {peer}\n".encode()


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read()
    answered = answer(environ["REQUEST_METHOD"], environ["REMOTE_ADDR"], body)
    start_response("200 OK", [("Content-Length", str(len(answered)))])
    return [answered]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answered = answer(scope["method"], scope["client"][0], body)
    headers = [(b"content-length", str(len(answered)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answered})
