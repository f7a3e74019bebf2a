"""Commands in all spellings that are in use, and the structs that they are decoded to."""

from __future__ import annotations

from s3downloader.contract.commands import (
    Cancel,
    Command,
    Details,
    DiskSpace,
    Download,
    Limits,
    List,
    ModelAdd,
    ModelDelete,
    ModelGet,
    ModelList,
    ModelRollback,
    Pause,
    Resume,
    Status,
)

META = {"model_id": "vlm-7B", "model_name": "vlm-7B", "model_version": "2.5"}
_META = '{"model_id":"vlm-7B","model_name":"vlm-7B","model_version":"2.5"}'

_EXAMPLES: list[tuple[str, Command]] = [
    ('{"command":"pause","downloadId":"d-1"}', Pause(download_id="d-1")),
    ('{"command":"resume","download_id":"d-1"}', Resume(download_id="d-1")),
    ('{"command":"cancel","downloadId":"d-1"}', Cancel(download_id="d-1")),
    (
        '{"command":"list","listType":"downloads","commandId":"cli-1"}',
        List(list_type="downloads", command_id="cli-1"),
    ),
    ('{"command":"list"}', List()),
    ('{"command":"list","list_type":"models"}', List(list_type="models")),
    (
        '{"command":"list","list_type":"s3","bucket":"my-data-bucket","key":"vlm-7B/"}',
        List(list_type="s3", bucket="my-data-bucket", key="vlm-7B/"),
    ),
    (
        '{"command":"list","nextToken":"pGE","list_type":"models"}',
        List(list_type="models", next_token="pGE"),
    ),
    (f'{{"command":"model_add","model_meta":{_META}}}', ModelAdd(model_meta=META)),
    (
        (
            '{"command":"modelAdd","modelMeta":{"modelId":"vlm-7B","modelName":"vlm-7B",'
            '"modelVersion":"2.5"},"commandId":"c"}'
        ),
        ModelAdd(model_meta=META, command_id="c"),
    ),
    (
        (
            '{"command":"download","bucket":"my-data-bucket","key":"vlm-7B/",'
            f'"destination":"/tmp/downloads/model/vlm-7B","model_meta":{_META}}}'
        ),
        Download(
            bucket="my-data-bucket",
            key="vlm-7B/",
            destination="/tmp/downloads/model/vlm-7B",
            model_meta=META,
        ),
    ),
    (
        (
            '{"command":"download","commandId":"c","downloadId":"d","bucket":"my-data-bucket",'
            '"key":"a","destination":"/data/x","numWorkers":8,"concurrency":2,"retryCount":3,'
            f'"s3TransferAcceleration":true,"modelMeta":{_META}}}'
        ),
        Download(
            command_id="c",
            download_id="d",
            bucket="my-data-bucket",
            key="a",
            destination="/data/x",
            numworkers=8,
            concurrency=2,
            retry_count=3,
            s3_transfer_acceleration=True,
            model_meta=META,
        ),
    ),
    ('{"command":"model_get","model_id":"vlm-7B"}', ModelGet(model_id="vlm-7B")),
    ('{"command":"modelGet","modelId":"vlm-7B"}', ModelGet(model_id="vlm-7B")),
    ('{"command":"model_delete","model_id":"vlm-7B"}', ModelDelete(model_id="vlm-7B")),
    ('{"command":"model_rollback","model_id":"vlm-7B"}', ModelRollback(model_id="vlm-7B")),
    ('{"command":"model_list"}', ModelList()),
    ('{"command":"modelList"}', ModelList()),
    ('{"command":"details","download_id":"d-1"}', Details(download_id="d-1")),
    (
        '{"command":"details","download_id":"d-1","next_token":"AQ"}',
        Details(download_id="d-1", next_token="AQ"),
    ),
    ('{"command":"getdetails","downloadId":"d-1"}', Details(download_id="d-1")),
    ('{"command":"getDetails","downloadId":"d-1"}', Details(download_id="d-1")),
    ('{"command":"disk-space"}', DiskSpace()),
    ('{"command":"disk_space"}', DiskSpace()),
    ('{"command":"diskSpace"}', DiskSpace()),
    ('{"command":"status"}', Status()),
    ('{"command":"limits"}', Limits()),
    ('{"command":"limits","maxBandwidth":2500000}', Limits(max_bandwidth=2_500_000)),
    (
        '{"command":"limits","downloadId":"d-1","maxBandwidth":null}',
        Limits(download_id="d-1", max_bandwidth=None),
    ),
]

EXAMPLES = [(text.encode(), command) for text, command in _EXAMPLES]
