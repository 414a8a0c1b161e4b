"""aiosmtpd as the mail server of a test: prints its port, then each mail it takes as one line of JSON."""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

MODE, CERTIFICATE, KEY, PASSWORD = sys.argv[1:5]


class Handler:
    async def handle_DATA(self, server, session, envelope):
        taken = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "mail": envelope.content.decode("utf-8", "replace"),
            "tls": session.ssl is not None or MODE == "implicit",
            "login": session.authenticated,
        }
        print(json.dumps(taken), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"moon" and data.password == PASSWORD.encode()
    return AuthResult(success=good, handled=good)


async def main():
    context = None
    if MODE != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE, KEY)

    def server():
        return SMTP(
            Handler(),
            hostname="peer",
            enable_SMTPUTF8=True,
            tls_context=context if MODE == "starttls" else None,
            require_starttls=MODE == "starttls",
            auth_require_tls=MODE == "starttls",
            auth_required=MODE != "none",
            authenticator=authenticate,
        )

    listening = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", 0, ssl=context if MODE == "implicit" else None
    )
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


asyncio.run(main())
