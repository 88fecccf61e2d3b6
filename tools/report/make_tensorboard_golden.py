"""Writes tests/golden/report/events.tfevents with TensorBoard's own message classes and record writer; the same events
are encoded by src/report/tensorboard_test.cpp, which compares the bytes. Needs: pip install tensorboard "setuptools<80".
Checks too that TensorBoard reads them as they were meant, a restart included.

python3 tools/report/make_tensorboard_golden.py [EVENT_FILE to read back and print]
"""
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/report/events.tfevents"


def events():
    yield event_pb2.Event(wall_time=1000.5, file_version="brain.Event:2")
    for step, value in ((1, 2.5), (2, -1.25), (300, 1e-8), (1 << 40, float("nan"))):
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="loss/train", simple_value=value)])
        yield event_pb2.Event(wall_time=1001.25, step=step, summary=summary)
    histogram = summary_pb2.HistogramProto(min=1, max=5, num=4, sum=11, sum_squares=39,
                                           bucket_limit=[1, 3, 5], bucket=[0, 3, 1])
    summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="load", histo=histogram)])
    yield event_pb2.Event(wall_time=1002, step=300, summary=summary)
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=["a *sample* \u03bb".encode()],
                                    tensor_shape=tensor_shape_pb2.TensorShapeProto(
                                        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]))
    metadata = summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"))
    summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="text", tensor=tensor, metadata=metadata)])
    yield event_pb2.Event(wall_time=1003, step=301, summary=summary)
    yield event_pb2.Event(wall_time=1004, step=2,
                          session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))


def read_back(path):
    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}, tags


if len(sys.argv) > 1:
    print(*read_back(sys.argv[1]), sep="\n")
else:
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    with GOLDEN.open("wb") as file:
        writer = RecordWriter(file)
        for event in events():
            writer.write(event.SerializeToString())
    scalars, tags = read_back(GOLDEN)
    # The restart at step 2 makes void what was said of that step and later ones.
    assert scalars == {"loss/train": [(1, 2.5)]}, scalars
