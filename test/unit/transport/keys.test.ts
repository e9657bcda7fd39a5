import { curveKeyPair } from "zeromq";
import { expect, test } from "vitest";
import { admissionProof, decodeZ85, isPublicKey, isSameProof } from "../../../src/transport/keys.ts";

const challenge = { nonce: new Uint8Array(32).fill(7), routingId: "00112233445566778899aabbccddeeff", workerId: "w3.1" };

test("both ends compute the same proof, and anything in the challenge changes it", () => {
  const [a, b] = [curveKeyPair(), curveKeyPair()];
  const proof = admissionProof(a, b.publicKey, challenge);
  expect(isSameProof(proof, admissionProof(b, a.publicKey, challenge))).toBe(true);
  const others = [
    admissionProof(curveKeyPair(), b.publicKey, challenge),
    admissionProof(a, curveKeyPair().publicKey, challenge),
    admissionProof(a, b.publicKey, { ...challenge, workerId: "w3.2" }),
    admissionProof(a, b.publicKey, { ...challenge, nonce: new Uint8Array(32) }),
    admissionProof(a, b.publicKey, { ...challenge, routingId: "00112233445566778899aabbccddeefe" }),
  ];
  for (const other of others) expect(isSameProof(proof, other)).toBe(false);
  expect(isSameProof(proof, proof.subarray(1))).toBe(false);
});

/** The keys of https://rfc.zeromq.org/spec/26, section "test vectors". test/workers/test_keys.py holds the same proof. */
test("the proof of known keys is the one that the worker computes, too", () => {
  const server = { publicKey: "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", secretKey: "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6" };
  const worker = { publicKey: "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", secretKey: "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs" };
  const proof = admissionProof(server, worker.publicKey, challenge);
  expect(Buffer.from(proof).toString("hex")).toBe("4705cc4bcac3074dd38ac0492a7c409081e69fc4cf9d550af604ee4b7bc6540d");
});

test("Z85 is read as its specification has it", () => {
  expect([...decodeZ85("HelloWorld")]).toEqual([0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b]);
});

test("a public key is 40 characters of Z85", () => {
  const { publicKey } = curveKeyPair();
  expect([publicKey, publicKey.slice(1), `${publicKey}0`, `"${publicKey.slice(1)}`, ""].map(isPublicKey)).toEqual([
    true,
    false,
    false,
    false,
    false,
  ]);
});
