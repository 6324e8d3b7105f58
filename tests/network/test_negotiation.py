"""What is agreed: classes known and unknown, syntaxes in the peer's order, roles, and who is refused."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from pynetdicom import sop_class

from dicomlake.network.seams import Message, Operation, Replies
from dicomlake.network.upper import negotiation, pdu
from dicomlake.network.upper.negotiation import Negotiator
from tests.network import raw

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
JPEG, PRIVATE = "1.2.840.10008.1.2.4.70", "1.3.6.1.4.1.99999.7"


class Answers:
    def __init__(self, operation: Operation, *classes: str) -> None:
        self.operation: Operation = operation
        self.sop_classes: Collection[str] = classes

    def answer(self, message: Message) -> Replies:
        raise NotImplementedError


def agree(
    *contexts: tuple[str, list[str]],
    allowed: Collection[Operation] = raw.ALL,
    roles: tuple[pdu.Role, ...] = (),
    services: tuple[Answers, ...] = (),
) -> negotiation.Agreement:
    proposed = tuple(pdu.Proposed(2 * n + 1, uid, tuple(ts)) for n, (uid, ts) in enumerate(contexts))
    request = pdu.AssociateRequest(1, "US", "THEM", pdu.APPLICATION_CONTEXT, proposed, roles)
    return Negotiator(services).agree(request, allowed)


def results(agreement: negotiation.Agreement) -> list[int]:
    return [one.result for one in agreement.decided]


def test_every_storage_class_of_pynetdicom_is_storage() -> None:
    others = sop_class._NON_PATIENT_OBJECT_CLASSES
    known = set(sop_class._STORAGE_CLASSES.values()) | {u for name, u in others.items() if "Storage" in name}
    assert len(known) > 150
    assert [uid for uid in known if not negotiation.is_storage(uid)] == []


def test_private_classes_and_those_of_later_editions_are_storage() -> None:
    for uid in (PRIVATE, "1.2.840.10008.5.1.4.1.1.9999", "2.25.1"):
        assert negotiation.is_storage(uid)
    for uid in ("", "abc", "1" * 65):
        assert not negotiation.is_storage(uid)


@pytest.mark.parametrize(
    "group",
    ["QR", "VERIFICATION", "STORAGE_COMMITMENT", "PROCEDURE_STEP", "PRINT_MANAGEMENT", "MEDIA_STORAGE"],
)
def test_what_pynetdicom_lists_as_a_service_is_not_storage(group: str) -> None:
    listed = [uid for uid in getattr(sop_class, f"_{group}_CLASSES").values() if uid.startswith("1.2.840")]
    assert listed
    assert [uid for uid in listed if negotiation.is_storage(uid)] == []


def test_the_first_syntax_that_the_peer_names_is_accepted_private_ones_too() -> None:
    agreement = agree(
        (raw.CT, [JPEG, raw.EXPLICIT]), (raw.CT, [PRIVATE]), (PRIVATE, [raw.IMPLICIT, raw.EXPLICIT])
    )
    assert results(agreement) == [0, 0, 0]
    assert [one.transfer_syntax for one in agreement.decided] == [JPEG, PRIVATE, raw.IMPLICIT]


def test_services_read_explicit_and_implicit_little_endian_only() -> None:
    services = (Answers("find", FIND),)
    agreement = agree(
        (FIND, [raw.IMPLICIT, raw.EXPLICIT]), (FIND, [raw.IMPLICIT]), (FIND, [JPEG]), services=services
    )
    assert results(agreement) == [0, 0, 4]
    assert [one.transfer_syntax for one in agreement.decided][:2] == [raw.EXPLICIT, raw.IMPLICIT]
    assert agreement.contexts[1].service is services[0]


def test_what_a_peer_is_not_allowed_is_not_accepted() -> None:
    contexts = (raw.VERIFICATION, [raw.IMPLICIT]), (raw.CT, [raw.EXPLICIT]), (FIND, [raw.EXPLICIT])
    services = (Answers("find", FIND),)
    assert results(agree(*contexts, allowed={"echo"}, services=services)) == [0, 1, 1]
    assert results(agree(*contexts, allowed={"store"}, services=services)) == [1, 0, 1]
    assert results(agree(*contexts, allowed={"find"}, services=services)) == [1, 1, 0]
    assert results(agree(*contexts, allowed=(), services=services)) == [1, 1, 1]


def test_a_class_that_no_service_claims_is_rejected_as_unknown() -> None:
    assert results(agree((FIND, [raw.EXPLICIT]), ("no uid", [raw.EXPLICIT]))) == [3, 3]


def test_a_context_without_a_transfer_syntax_is_rejected() -> None:
    assert results(agree((raw.CT, []), (raw.CT, [""]))) == [4, 4]


def test_the_role_of_an_scp_is_granted_to_those_who_may_get() -> None:
    services = (Answers("get", GET),)
    both = (pdu.Role(raw.CT, True, True),)
    only = (pdu.Role(raw.CT, False, True),)
    context = (raw.CT, [raw.EXPLICIT])
    agreement = agree(context, roles=only, services=services)
    assert (results(agreement), list(agreement.roles)) == ([0], [pdu.Role(raw.CT, False, True)])
    assert (agreement.contexts[1].takes, agreement.contexts[1].store) == (True, False)
    assert list(agree(context, roles=both, services=services).roles) == [pdu.Role(raw.CT, True, True)]
    assert list(agree(context, roles=both).roles) == [pdu.Role(raw.CT, True, False)]
    assert list(agree(context, roles=both, services=services, allowed={"get"}).roles) == [
        pdu.Role(raw.CT, False, True)
    ]
    assert results(agree(context, roles=only)) == [1]
    assert list(agree(context, services=services).roles) == []


def test_association_requests_are_refused_with_the_reason_of_the_standard() -> None:
    def asked(version: int = 1, called: str = "US", application: str = pdu.APPLICATION_CONTEXT) -> object:
        request = pdu.AssociateRequest(version, called, "THEM", application, ())
        return negotiation.refusal(request, {"US", "WE"})

    assert asked() is None
    assert asked(version=3) is None  # later versions set more bits (PS3.8 table 9-11)
    assert asked(version=2) == negotiation.WRONG_VERSION
    assert asked(called="YOU") == negotiation.CALLED_UNKNOWN
    assert asked(application="1.2.3") == negotiation.WRONG_APPLICATION
    request = pdu.AssociateRequest(1, "ANY", "THEM", pdu.APPLICATION_CONTEXT, ())
    assert negotiation.refusal(request, ()) is None
