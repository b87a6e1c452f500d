#!/usr/bin/env python3
"""A terminal and a reader of Warifu by docs/protocol.md: nothing of the Rust code is used.

    client.py DEMO.json      (the one line that `warifu demo --json` prints)

Joins the running network with a spare invitation and a spare pairing link, pays, and checks every confirmation,
acknowledgement, answer signature and sealed notice. Needs Python 3.11 and the package `cryptography`.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import secrets
import sys
import time
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CHECKS = 0


def ok(what, holds):
    global CHECKS
    if not holds:
        print(f"FAILED  {what}")
        sys.exit(1)
    CHECKS += 1
    print(f"ok  {what}")


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def hkdf(ikm, salt, info, length=32):
    return HKDF(hashes.SHA256(), length, salt, info).derive(ikm)


def u64(number):
    return number.to_bytes(8, "big")


def raw_id(text):
    value = 0
    for digit in text.split("_")[1]:
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(digit)
    return value.to_bytes(16, "big")


class Public:
    """A P-256 key of a JWK."""

    def __init__(self, jwk):
        self.x, self.y = jwk["x"], jwk["y"]
        numbers = ec.EllipticCurvePublicNumbers(*(int.from_bytes(unb64u(it), "big") for it in (self.x, self.y)), ec.SECP256R1())
        self.key = numbers.public_key()
        self.thumbprint = sha256(f'{{"crv":"P-256","kty":"EC","x":"{self.x}","y":"{self.y}"}}'.encode())

    def jwk(self):
        return {"kty": "EC", "crv": "P-256", "x": self.x, "y": self.y}

    def verifies(self, message, signature):
        r, s = (int.from_bytes(it, "big") for it in (signature[:32], signature[32:]))
        try:
            self.key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
            return len(signature) == 64
        except InvalidSignature:
            return False


class Private:
    """A key of our own; signs like an identity."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        self.public = Public({"x": b64u(numbers.x.to_bytes(32, "big")), "y": b64u(numbers.y.to_bytes(32, "big"))})
        self.keyid = b64u(self.public.thumbprint)

    def sign(self, message):
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Session:
    """Signs by HMAC; holds the key of the other direction as well."""

    def __init__(self, keyid, okm):
        self.keyid, self.own, self.theirs = keyid, okm[:32], okm[32:]

    def sign(self, message):
        return mac(self.own, message)


class Server:
    """Calls one server; believes no answer that it has not signed."""

    def __init__(self, url, key):
        self.parts, self.key = urllib.parse.urlsplit(url), key

    def call(self, method, path, body=None, signer=None, created=None, digest_of=None, headers=None, stream=False, bound=True):
        data = None if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        target = [("@method", method), ("@authority", self.parts.netloc), ("@path", path), ("@query", "?" + query)]
        send, sent = dict(headers or {}), None
        if data is not None:
            digest = base64.b64encode(sha256(data if digest_of is None else digest_of)).decode()
            send |= {"content-type": "application/json", "content-digest": f"sha-256=:{digest}:"}
        if signer is not None:
            covered = target + ([("content-digest", send["content-digest"])] if data is not None else [])
            names = " ".join(f'"{name}"' for name, _ in covered)
            made = int(time.time()) if created is None else created
            params = f'({names});created={made};keyid="{signer.keyid}";nonce="{secrets.token_urlsafe(12)}";tag="warifu"'
            lines = [f'"{name}": {value}' for name, value in covered] + [f'"@signature-params": {params}']
            sent = signer.sign("\n".join(lines).encode())
            send |= {"signature-input": f"mine={params}", "signature": f"mine=:{base64.b64encode(sent).decode()}:"}
        connection = http.client.HTTPConnection(self.parts.netloc, timeout=30)
        connection.request(method, path + ("?" + query if query else ""), body=data, headers=send)
        answer = connection.getresponse()
        content = None if stream else answer.read()
        # What is refused before its signature is verified is answered like an unsigned request.
        self.check(answer, content, target, sent if bound else None, signer)
        return answer if stream else (answer.status, json.loads(content))

    def check(self, answer, content, target, sent, signer):
        label, params = answer.headers["signature-input"].split("=", 1)
        signature = base64.b64decode(answer.headers["signature"].split("=", 1)[1].strip(":"))
        values = {'"@status"': str(answer.status)} | {f'"{name}";req': value for name, value in target}
        if content is not None:
            digest = f"sha-256=:{base64.b64encode(sha256(content)).decode()}:"
            assert answer.headers["content-digest"] == digest, "the answer's digest is wrong"
            values['"content-digest"'] = digest
        if sent is not None:
            values['"signature";req;key="mine"'] = f":{base64.b64encode(sent).decode()}:"
        covered = params[1 : params.index(")")].split(" ")
        assert set(covered) >= set(values), f"the answer does not cover {set(values) - set(covered)}"
        base = "\n".join([f"{name}: {values[name]}" for name in covered] + [f'"@signature-params": {params}']).encode()
        if isinstance(signer, Session) and f'keyid="{signer.keyid}"' in params:
            good = hmac.compare_digest(mac(signer.theirs, base), signature)
        elif self.key is None:
            good = True  # the first look into the directory; its entries carry their own signatures
        else:
            good = f'keyid="{b64u(self.key.thumbprint)}"' in params and self.key.verifies(base, signature)
        assert good and 'tag="warifu"' in params, "the answer is not signed by the server"


def directory(url, registrar_thumbprint):
    page = Server(url, None).call("GET", "/v1/directory?view=all&after=0")[1]
    registrar = Public(page["registrar"])
    ok("the registrar is the one of the link", b64u(registrar.thumbprint) == registrar_thumbprint)
    head, found, keys = bytes(32), {}, {}
    for entry in page["entries"]:
        body, signature = unb64u(entry["body"]), unb64u(entry["signature"])
        about = json.loads(body)
        signer = keys[about["merchant_id"]] if entry["kind"] == "reader" else registrar
        message = b"warifu/directory/v1\n" + raw_id(page["network_id"]) + entry["kind"].encode() + b"\n" + body
        assert b64u(signer.thumbprint) == entry["key"] and signer.verifies(message, signature), "an entry is wrongly signed"
        head = sha256(head, entry["kind"].encode(), b"\n", body, signer.thumbprint, signature)
        if "key" in about:
            keys[about["id"]] = Public(about["key"])
        found.setdefault(entry["kind"], []).append(about)
    ok("every entry of the directory is signed, and the head is its hash chain", b64u(head) == page["head"])
    return page["network_id"], found, keys


class Phone:
    """A terminal linked to an account."""

    def __init__(self, hub, link):
        prefix, invitation, secret, _ = link.split("#link=")[1].split(".")
        self.hub, self.prefix, self.key = hub, prefix, Private()
        thumbprint = self.key.public.thumbprint
        keys = {name: hkdf(unb64u(secret), thumbprint, f"warifu/{name}-key/v1".encode()) for name in ("code", "link", "seal")}
        self.code_key, self.link_key, self.seal_key = keys["code"], keys["link"], keys["seal"]
        proof = mac(self.link_key, b"warifu/link/v1\n", prefix.encode(), b"\n", raw_id(invitation), thumbprint)
        wish = {"prefix": prefix, "invitation_id": invitation, "key": self.key.public.jwk(), "label": "Python", "proof": b64u(proof)}
        status, answer = hub.call("POST", "/v1/links", wish, self.key)
        ok("a link is answered 201", status == 201)
        said = unb64u(answer["answer"])
        self.credential = raw_id(answer["credential_id"])
        confirmation = mac(self.link_key, b"warifu/linked/v1\n", self.credential, sha256(said))
        ok("the link's confirmation holds", b64u(confirmation) == answer["confirmation"])
        self.about = json.loads(said)
        ok("the link is to this issuer", self.about["issuer"]["prefix"] == prefix)
        ok("the same link gets the same answer", hub.call("POST", "/v1/links", wish, self.key)[1] == answer)
        self.sequence = int(time.time())

    def statement(self, code, lifetime=60):
        at, self.sequence = len(self.prefix), self.sequence + 1
        tag = mac(self.code_key, b"warifu/code/v1\n", code.encode())[:16]
        return b"".join([
            bytes([1, at]), lifetime.to_bytes(2, "big"), int(self.prefix).to_bytes(4, "big"), int(code[at : at + 6]).to_bytes(4, "big"),
            self.sequence.to_bytes(4, "big"), self.credential, tag, u64(int(time.time() * 1000)), (392).to_bytes(2, "big"), bytes(6),
        ])

    def code(self):
        rest = 24 - len(self.prefix) - 2
        return f"{self.prefix}{self.about['partition']:02}" + "".join(str(secrets.randbelow(10)) for _ in range(rest))

    def register(self, statement):
        registration = statement + self.key.sign(b"warifu/registration/v1\n" + statement)
        while True:
            answer = self.hub.call("POST", "/v1/codes", {"registration": b64u(registration)})
            if answer[0] != 429:
                return registration, answer
            time.sleep(0.5)  # one in two seconds, bursts of five

    def shown(self):
        code = self.code()
        statement = self.statement(code)
        _, (status, answer) = self.register(statement)
        ack = mac(self.link_key, b"warifu/registered/v1\n", sha256(statement), u64(answer["expires_ms"]), u64(answer["now_ms"]))[:16]
        ok("a registration is acknowledged by the issuer itself", status == 201 and b64u(ack) == answer["ack"])
        return code

    def notices(self, last=None):
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        stream = self.hub.call("GET", "/v1/events", None, self.key, headers=headers, stream=True)
        for line in stream:
            if line.startswith(b"data:"):
                notice = json.loads(line[5:])
                sealed, number = unb64u(notice["sealed"]), notice["number"]
                context = b"warifu/notice/v1\n" + self.credential + u64(number)
                plain = AESGCM(self.seal_key).decrypt(sealed[:12], sealed[12:], context)
                yield number, json.loads(plain), plain


def pair(hub, keys, link):
    _, pairing, secret, _ = link.split("#pair=")[1].rsplit(".", 3)
    key = Private()
    pair_key = hkdf(unb64u(secret), key.public.thumbprint, b"warifu/pair-key/v1")
    proof = mac(pair_key, b"warifu/pair/v1\n", raw_id(pairing), key.public.thumbprint)
    wish = {"key": key.public.jwk(), "name": "Python till", "proof": b64u(proof)}
    for _ in range(5):
        status, answer = hub.call("POST", f"/v1/pairings/{pairing}", wish, key)
        if status != 202:
            break
    body = json.loads(unb64u(answer["entry"]["body"]))
    named = Public(body["key"]).thumbprint == key.public.thumbprint and body["id"] == answer["reader_id"]
    merchant = keys[answer["merchant"]["id"]]
    ok("the pairing's entry names our key and its merchant", status == 200 and named and answer["entry"]["key"] == b64u(merchant.thumbprint))
    return key, answer, merchant


def open_session(server, key):
    own = Private()
    for _ in range(100):
        status, answer = server.call("POST", "/v1/sessions", {"key": own.public.jwk()}, key)
        if status == 200:
            break
        time.sleep(0.05)  # the reader's entry is on its way to the issuer
    ok("a session is opened", status == 200)
    theirs = Public(answer["key"])
    shared = own.key.exchange(ec.ECDH(), theirs.key)
    info = b"warifu/session/v1\n" + key.public.thumbprint + server.key.thumbprint + own.public.thumbprint + theirs.thumbprint
    return Session(answer["session_id"], hkdf(shared, raw_id(answer["session_id"]), info, 64))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        demo = json.load(file)
    invitation, pairing = demo["spare_invitations"][0]["link"], demo["spare_pairing_links"][0]
    hub_url = invitation.split("/wallet")[0]
    network, found, keys = directory(hub_url, invitation.rsplit(".", 1)[1])
    hub = Server(hub_url, keys[found["hub"][0]["id"]])
    about = next(it for it in found["issuer"] if it["prefix"] == demo["spare_invitations"][0]["prefix"])
    issuer = Server(about["endpoints"][0]["url"], keys[about["id"]])
    ok("the hub signs its directory", hub.call("GET", "/v1/directory?view=issuers")[1]["network_id"] == network)

    phone = Phone(hub, invitation)
    key, paired, merchant = pair(hub, keys, pairing)
    entry = paired["entry"]
    message = b"warifu/directory/v1\n" + raw_id(network) + b"reader\n" + unb64u(entry["body"])
    ok("the merchant signed it", merchant.verifies(message, unb64u(entry["signature"])))
    session = open_session(issuer, key)

    def pay(request_id, code, minor=1200, signer=session, **how):
        amount = {"minor": minor, "currency": "JPY"}
        return issuer.call("POST", "/v1/payments", {"request_id": request_id, "code": code, "amount": amount, "capture": "now"}, signer, **how)

    name = "py-" + secrets.token_hex(8)
    code = phone.shown()
    status, paid = pay(name, code)
    ok("1200 JPY are approved", status == 200 and paid["status"] == "approved" and paid["captured"]["minor"] == 1200)
    ok("the same request is the same payment", pay(name, code) == (200, paid))
    ok("the same, signed by the key itself", pay(name, code, signer=key)[1] == paid)
    ok("another amount under its id is refused", pay(name, code, 1201)[1]["code"] == "request_id_conflict")
    ok("the code pays once", pay(name + "b", code)[1]["rejection"]["code"] == "code_used")
    ok("the payment is found by its id", issuer.call("GET", f"/v1/payments/{paid['payment_id']}", None, session)[1] == paid)
    route = code[: len(phone.prefix) + 2]
    ok("and by its request id", issuer.call("GET", f"/v1/payments?request_id={name}&route={route}", None, session)[1] == paid)
    ok("an unknown code is declined", pay(name + "c", phone.code())[1]["rejection"]["code"] == "code_unknown")

    statement = phone.statement(phone.code())
    registration, first = phone.register(statement)
    again = hub.call("POST", "/v1/codes", {"registration": b64u(registration)})
    ok("the same registration gets the same answer", first[0] == 201 and first == again)
    altered = bytes([*registration[:40], registration[40] ^ 1, *registration[41:]])
    ok("an altered one is refused", hub.call("POST", "/v1/codes", {"registration": b64u(altered)})[1]["code"] == "signature_invalid")
    number = str(int.from_bytes(registration, "big")).rjust(309, "0")
    ok("a long code has 333 digits and comes back", len("0" * 24 + number) == 333 and int(number).to_bytes(128, "big") == registration)

    ok("an unsigned payment is refused", pay(name + "d", code, signer=None)[1]["code"] == "unsigned")
    ok("a stale signature is refused", pay(name + "d", code, created=int(time.time()) - 300)[1]["code"] == "clock_skew")
    ok("a wrong digest is refused", pay(name + "d", code, digest_of=b"{}", bound=False)[0] in (400, 401))
    ok("a stranger's signature is refused", pay(name + "d", code, signer=Private())[1]["code"] == "key_unknown")

    last, notice, _ = next(phone.notices())
    ok("the sealed notice tells of the payment", notice["kind"] == "paid" and notice["payment_id"] == paid["payment_id"])
    ok("and says what was paid", notice["amount"] == {"minor": 1200, "currency": "JPY"} and notice["merchant"]["id"] == demo["merchant_id"])

    code = phone.shown()
    _, (status, _) = phone.register(phone.statement(phone.code(), lifetime=0))
    ok("a withdrawal is taken", status == 201)
    ok("a withdrawn code is retired", pay(name + "e", code)[1]["rejection"]["code"] == "code_retired")
    code = phone.shown()
    ok("the next code pays", pay(name + "f", code, 1)[1]["status"] == "approved")
    number, notice, _ = next(phone.notices(last))
    ok("notices go on after the last one", number == last + 1 and notice["amount"]["minor"] == 1)
    life(hub, issuer, phone, session, pay, demo, number)
    print(f"all {CHECKS} checks passed")


def life(hub, issuer, phone, session, pay, demo, last):
    """Holds, captures, refunds, reversals, the payer's word, long codes, the feed."""
    name = "life-" + secrets.token_hex(8)
    yen = lambda minor: {"minor": minor, "currency": "JPY"}
    post = lambda path, body: issuer.call("POST", path, body, session)

    def hold(request_id, minor):
        body = {"request_id": request_id, "code": phone.shown(), "amount": yen(minor), "capture": "later"}
        return post("/v1/payments", body)[1]

    held = hold(name + "1", 100)
    ok("a hold is held", held["status"] == "held" and held["captured"]["minor"] == 0 and "expires_at" in held)
    path = f"/v1/payments/{held['payment_id']}"
    ok("more than is held is refused", post(path + "/captures", {"request_id": name + "2", "amount": yen(101)})[1]["code"] == "amount_too_large")
    wish = {"request_id": name + "2", "amount": yen(70)}
    status, captured = post(path + "/captures", wish)
    ok("part of a hold is captured", status == 200 and captured["payment"]["status"] == "approved" and captured["payment"]["captured"] == yen(70))
    ok("a repeated capture is the same", post(path + "/captures", wish) == (200, captured))
    ok("a hold is captured once", post(path + "/captures", {"request_id": name + "3", "amount": yen(1)})[1]["code"] == "payment_state")
    wish = {"request_id": name + "4", "amount": yen(40), "reason": "broken"}
    status, refunded = post(path + "/refunds", wish)
    ok("part of it is refunded", status == 200 and refunded["status"] == "refunded" and refunded["payment"]["refunded"] == yen(40))
    ok("a repeated refund is the same", post(path + "/refunds", wish) == (200, refunded))
    ok("a changed one is refused", post(path + "/refunds", {**wish, "amount": yen(41)})[1]["code"] == "request_id_conflict")
    ok("never more than was captured", post(path + "/refunds", {"request_id": name + "5", "amount": yen(31)})[1]["code"] == "amount_too_large")
    free = hold(name + "6", 10)
    released = post(f"/v1/payments/{free['payment_id']}/release", {})[1]
    ok("a hold is released", released["status"] == "released" and post(f"/v1/payments/{free['payment_id']}/release", {})[1] == released)

    code = phone.shown()
    route = code[: len(phone.prefix) + 2]
    reversal = lambda request_id, reason="timeout": post("/v1/reversals", {"request_id": request_id, "route": route, "reason": reason})
    ok("a payment that has not arrived is reversed", reversal(name + "7") == (200, {"request_id": name + "7", "status": "reversed"}))
    late = pay(name + "7", code, 5)[1]
    ok("when it arrives it is declined", late["rejection"]["code"] == "reversed_before_arrival")
    ok("and the reversal's repeat is the same", reversal(name + "7") == (200, {"request_id": name + "7", "status": "reversed"}))
    paid = pay(name + "8", code, 5)[1]
    ok("its code still pays", paid["status"] == "approved")
    undone = (200, {"request_id": name + "8", "status": "reversed", "payment_id": paid["payment_id"]})
    ok("a payment is reversed by the cashier", reversal(name + "8", "cashier") == undone and reversal(name + "8") == undone)
    ok("nothing of it remains", pay(name + "8", code, 5)[1]["status"] == "reversed")
    ok("and nothing can be refunded", post(f"/v1/payments/{paid['payment_id']}/refunds", {"request_id": name + "9", "amount": yen(1)})[1]["code"] == "payment_state")

    code = phone.code()
    statement = phone.statement(code)
    registration = statement + phone.key.sign(b"warifu/registration/v1\n" + statement)
    long_code = lambda it: code + str(int.from_bytes(it, "big")).rjust(309, "0")
    altered = bytes([*registration[:40], registration[40] ^ 1, *registration[41:]])
    ok("an altered long code is refused", pay(name + "a", long_code(altered), 7)[1]["rejection"]["code"] == "registration_invalid")
    ok("a long code pays without registration", pay(name + "b", long_code(registration), 7)[1]["status"] == "approved")
    ok("and only once", pay(name + "c", long_code(registration), 7)[1]["rejection"]["code"] == "code_used")

    notices = phone.notices(last)

    def question(payment):
        for number, notice, plain in notices:
            if notice["payment_id"] == payment["payment_id"] and notice["kind"] == "confirm":
                return number, notice, plain

    def word(payment, asked, verdict):
        number, notice, plain = asked
        amount = notice["amount"]["minor"]
        message = b"warifu/confirm/v1\n" + bytes([verdict]) + raw_id(payment["payment_id"]) + raw_id(notice["merchant"]["id"])
        message += u64(amount) + (392).to_bytes(2, "big") + sha256(plain)
        body = {"credential_id": phone.about["credential_id"], "payment_id": payment["payment_id"], "verdict": ["refuse", "confirm"][verdict]}
        return hub.call("POST", "/v1/confirmations", {**body, "signature": b64u(phone.key.sign(message))}, phone.key)

    limit = phone.about["limits"]["confirm_above_minor"]
    waiting = pay(name + "d", phone.shown(), limit + 1)[1]
    ok("above the limit the payer is asked", waiting["status"] == "awaiting_payer" and "expires_at" in waiting)
    asked = question(waiting)
    ok("the question says what the till asked", asked[1]["amount"] == yen(limit + 1) and asked[1]["merchant"]["id"] == demo["merchant_id"])
    ok("the payer confirms", word(waiting, asked, 1) == (200, {"payment_id": waiting["payment_id"], "verdict": "confirm"}))
    ok("the same word again is heard", word(waiting, asked, 1)[0] == 200)
    ok("the first word stands", word(waiting, asked, 0)[1]["code"] == "payment_state")
    path = f"/v1/payments/{waiting['payment_id']}?wait_ms=5000"
    ok("the reader gets the end", issuer.call("GET", path, None, session)[1]["status"] == "approved")
    reversal(name + "d", "cashier")
    waiting = pay(name + "e", phone.shown(), limit + 1)[1]
    asked = question(waiting)
    forged = (asked[0], {**asked[1], "amount": yen(1)}, asked[2])
    ok("a word about another amount is none", word(waiting, forged, 1)[1]["code"] == "signature_invalid")
    ok("the payer refuses", word(waiting, asked, 0)[0] == 200)
    path = f"/v1/payments/{waiting['payment_id']}?wait_ms=5000"
    ok("a refused payment is declined", issuer.call("GET", path, None, session)[1]["rejection"]["code"] == "payer_refused")

    events, after = [], ""
    while True:
        page = issuer.call("GET", "/v1/events?limit=7&wait_ms=300" + after, None, session)[1]
        if not page["events"]:
            break
        events, after = events + page["events"], f"&after={page['next']}"
    mine = [it["kind"] for it in events if it["payment"]["payment_id"] == held["payment_id"]]
    ok("the feed has every change in order", mine == ["decided", "captured", "refunded"])
    ok("each event once", len({it["event_id"] for it in events}) == len(events))
    last = {it["payment"]["payment_id"]: it["payment"] for it in events}
    ok("its last word is the payment", all(issuer.call("GET", f"/v1/payments/{id}", None, session)[1] == it for id, it in last.items()))
    refund = next(it for it in events if it["kind"] == "refunded")
    ok("a refund carries its ids", refund["refund_id"] == refunded["refund_id"] and refund["request_id"] == name + "4")


if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    main()
