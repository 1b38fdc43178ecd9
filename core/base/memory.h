#pragma once

namespace mla {

/// Keeps memory that is freed for the next allocation instead of giving it back to the system. Steps of training and
/// evaluation free and allocate the same large buffers again and again; each time the system hands out cleared pages,
/// which takes a tenth of a training step of a model of 135 million parameters. The peak does not grow: what is free is
/// used first. To be called once, before other threads start; does nothing where the C library has no such setting.
void keep_freed_memory();

/// Gives what is free at this moment back to the system all the same: between parts of work that has to fit into little
/// memory, whose large buffers leave gaps that the next ones do not fill.
void give_back_freed_memory();

}  // namespace mla
