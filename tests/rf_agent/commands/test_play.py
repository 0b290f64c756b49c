"""The command that serves the page: what it refuses before it starts."""

import socket

import pytest
from policy_cases import make_policy

from rf_agent.commands.play import Args, _listen, _shown, run
from rf_agent.errors import UserError

pytest.importorskip("uvicorn")


def test_a_port_in_use_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} .*give another --port"):
            run(Args(policy="expert", port=port))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"port": 70000}, "--port is 70000"),
        ({"host": "no.such.host.invalid"}, "cannot listen at no.such.host.invalid"),
        ({"policy": "no-such-policy"}, "no policy 'no-such-policy'.* bundled name .*'expert', 'random' and module"),
        ({"policy": "expert", "env": "rf/PlayTableE-v0"}, "cannot make the environment 'rf/PlayTableE-v0'"),
        ({"policy": "expert", "env": "no_such_package:Arm-v0"}, "needs a package that is not installed"),
        ({"tables": 0, "policy": "expert", "port": 0}, "--tables is 0"),
    ],
)
def test_what_cannot_be_served_is_refused(changes, match, capsys):
    with pytest.raises((UserError, ValueError, ImportError), match=match):
        run(Args(**changes))
    assert "http" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"env_options": ("nonsense=1",)}, "cannot be made with nonsense: .* it takes .*image_size"),
        ({"env_options": ("image_size=[3]",)}, r"image_size is \[3\]; expected two edges"),
    ],
)
def test_what_no_table_can_begin_with_ends_it(changes, match):
    with pytest.raises(UserError, match=match):
        run(Args(**{"policy": "expert", "port": 0} | changes))


def test_a_folder_that_cannot_hold_recordings_is_refused_before_anything_is_recorded(tmp_path, monkeypatch):
    def full(dir):
        raise OSError(28, f"no room in {dir}")

    (tmp_path / "file").touch()
    for folder, said in ((tmp_path / "file", "is a file: give a folder"), (tmp_path / "file" / "in", "lies in .*file")):
        with pytest.raises(UserError, match=f"--recordings .* {said}"):
            run(Args(policy="expert", port=0, recordings=folder))
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match=rf"--recordings .* cannot be written \(no room in {tmp_path}\)"):
        run(Args(policy="expert", port=0, recordings=tmp_path))


def test_a_policy_of_another_robot_is_refused(tmp_path):
    policy = make_policy(0, 'views=["front"]').save_pretrained(tmp_path / "policy")
    with pytest.raises(UserError, match="sees the camera 'front', which rf/PlayTableD-v0 does not have"):
        run(Args(policy=str(policy)))


def test_the_address_that_is_printed_can_be_opened():
    assert (_shown("0.0.0.0"), _shown("::1"), _shown("192.168.0.7")) == ("127.0.0.1", "[::1]", "192.168.0.7")
    with _listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0
