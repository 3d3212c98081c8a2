// A board in simulation, offered as a serial port.
//
// The design (module `board`: clk, rst, rx, tx, busy) runs with a model of its UART between
// `rx`, `tx` and a pseudo-terminal. Prints "PTY <path>" once that is open, and on SIGINT or SIGTERM
// "CYCLES <all> <with busy>" and ends. While nothing happens the simulation slows down to leave the processor
// to others.
//
// Macros: DIVISOR, cycles per bit; HALF_PERIOD, of the clock in ps.

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include "Vboard.h"
#include "verilated.h"

namespace {

volatile std::sig_atomic_t ending = 0;

void on_signal(int) { ending = 1; }

constexpr int CHUNK = 2000;              // cycles between two looks at the pseudo-terminal
constexpr int SLOW_CHUNK = 200;          // the same when nothing has happened for a while
constexpr int SLOW_MS = 10;              // and a pause after each
constexpr std::uint64_t REST = 5000000;  // idle cycles until then: a flash may be erasing

// Sends bytes to the design: 8 data bits, no parity, 1 stop bit.
class Sender {
  public:
    void push(std::uint8_t byte) { waiting_.push_back(byte); }
    bool busy() const { return bits_ != 0 || !waiting_.empty(); }
    std::size_t waiting() const { return waiting_.size(); }

    bool line() {
        if (bits_ == 0) {
            if (waiting_.empty()) return true;
            bits_ = 0x600u | (std::uint32_t(waiting_.front()) << 1);  // start, data, stop, end mark
            waiting_.pop_front();
            left_ = DIVISOR;
        }
        const bool level = bits_ & 1;
        if (--left_ == 0) {
            left_ = DIVISOR;
            bits_ >>= 1;
            if (bits_ == 1) bits_ = 0;
        }
        return level;
    }

  private:
    std::deque<std::uint8_t> waiting_;
    std::uint32_t bits_ = 0;
    int left_ = 0;
};

// Receives bytes from the design; each bit is sampled in its middle.
class Receiver {
  public:
    bool busy() const { return count_ >= 0; }

    // Returns the byte that ends with this cycle, or -1.
    int step(bool line) {
        if (count_ < 0) {
            if (!line) {
                count_ = 0;
                left_ = DIVISOR / 2;
                bits_ = 0;
            }
            return -1;
        }
        if (--left_ > 0) return -1;
        left_ = DIVISOR;
        if (count_ == 0 && line) {  // no start bit
            count_ = -1;
            return -1;
        }
        bits_ |= std::uint32_t(line) << count_;
        if (++count_ < 10) return -1;
        count_ = -1;
        return (bits_ >> 1) & 0xFF;
    }

  private:
    int count_ = -1;
    int left_ = 0;
    std::uint32_t bits_ = 0;
};

// A pseudo-terminal that passes bytes as they are.
class Terminal {
  public:
    Terminal() {
        master_ = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
        if (master_ < 0 || grantpt(master_) || unlockpt(master_)) fail("pseudo-terminal");
        name_ = ptsname(master_);
        // Kept open: without it the master reports errors while no client is there.
        slave_ = open(name_, O_RDWR | O_NOCTTY);
        termios settings;
        if (slave_ < 0 || tcgetattr(slave_, &settings)) fail(name_);
        cfmakeraw(&settings);
        if (tcsetattr(slave_, TCSANOW, &settings)) fail(name_);
    }

    const char* name() const { return name_; }

    void receive(Sender& sender) {
        std::uint8_t buffer[4096];
        while (sender.waiting() < sizeof buffer) {
            const ssize_t count = read(master_, buffer, sizeof buffer);
            if (count <= 0) return;
            for (ssize_t k = 0; k < count; ++k) sender.push(buffer[k]);
        }
    }

    // A byte that nobody takes is lost, as on a line.
    void send(std::uint8_t byte) {
        if (write(master_, &byte, 1) != 1 && errno != EAGAIN) fail("write");
    }

    void wait() {
        pollfd one = {master_, POLLIN, 0};
        poll(&one, 1, SLOW_MS);
    }

  private:
    [[noreturn]] static void fail(const char* what) {
        std::perror(what);
        std::exit(1);
    }

    int master_ = -1;
    int slave_ = -1;
    const char* name_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    prctl(PR_SET_PDEATHSIG, SIGTERM);

    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const auto board = std::make_unique<Vboard>(context.get());
    Terminal terminal;
    Sender sender;
    Receiver receiver;
    std::uint64_t cycles = 0, busy_cycles = 0, quiet = 0;

    board->clk = 0;
    board->rst = 1;
    board->rx = 1;
    board->eval();
    std::printf("PTY %s\n", terminal.name());
    std::fflush(stdout);
    while (!ending && !context->gotFinish()) {
        terminal.receive(sender);
        const int chunk = quiet > REST ? SLOW_CHUNK : CHUNK;
        for (int k = 0; k < chunk; ++k) {
            board->rx = sender.line();
            board->rst = cycles < 4;
            context->timeInc(HALF_PERIOD);
            board->clk = 1;
            board->eval();
            const int byte = receiver.step(board->tx);
            if (byte >= 0) terminal.send(std::uint8_t(byte));
            context->timeInc(HALF_PERIOD);
            board->clk = 0;
            board->eval();
            busy_cycles += board->busy;
            ++cycles;
        }
        const bool active = sender.busy() || receiver.busy() || board->busy;
        quiet = active ? 0 : quiet + chunk;
        if (quiet > REST) terminal.wait();
    }
    board->final();
    std::printf("CYCLES %llu %llu\n", static_cast<unsigned long long>(cycles),
                static_cast<unsigned long long>(busy_cycles));
    return 0;
}
