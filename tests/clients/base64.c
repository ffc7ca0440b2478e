/* The five functions that perf_analyzer takes from the library libb64.so.0d, which its wheel does not bring along. It
 * calls them for tensors that a data file gives in base64. Nothing of that library is here but the names, the two
 * structs and their meaning. */

typedef struct {
    int held;       /* bytes waiting for their group of three */
    char bits;      /* of the last byte, what is not written yet */
    int written;    /* groups; unused */
} base64_encodestate;

typedef struct {
    int held;       /* characters of the group of four that have come */
    char bits;      /* of the last character, what is not written yet */
} base64_decodestate;

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_init_encodestate(base64_encodestate *state) {
    state->held = 0;
    state->bits = 0;
    state->written = 0;
}

int base64_encode_block(const char *from, int length, char *to, base64_encodestate *state) {
    char *out = to;
    for (int i = 0; i < length; i++) {
        unsigned byte = (unsigned char)from[i], before = (unsigned char)state->bits;
        int shift = 2 * state->held + 2;
        *out++ = letters[before | byte >> shift];
        state->bits = (char)((byte << (6 - shift)) & 0x3f);
        if (++state->held == 3) {
            *out++ = letters[byte & 0x3f];
            state->bits = 0;
            state->held = 0;
        }
    }
    return (int)(out - to);
}

int base64_encode_blockend(char *to, base64_encodestate *state) {
    char *out = to;
    if (state->held > 0) {
        *out++ = letters[(unsigned char)state->bits];
        for (int i = state->held; i < 3; i++) *out++ = '=';
    }
    return (int)(out - to);
}

void base64_init_decodestate(base64_decodestate *state) {
    state->held = 0;
    state->bits = 0;
}

static int value(char letter) {
    for (int i = 0; i < 64; i++)
        if (letters[i] == letter) return i;
    return -1;
}

int base64_decode_block(const char *from, const int length, char *to, base64_decodestate *state) {
    char *out = to;
    for (int i = 0; i < length; i++) {
        int six = value(from[i]);
        if (six < 0) continue; /* padding and line ends */
        unsigned before = (unsigned char)state->bits;
        switch (state->held) {
        case 0: break;
        case 1: *out++ = (char)(before << 2 | (unsigned)six >> 4); break;
        case 2: *out++ = (char)((before & 0xf) << 4 | (unsigned)six >> 2); break;
        default: *out++ = (char)((before & 0x3) << 6 | (unsigned)six); break;
        }
        state->bits = (char)six;
        state->held = (state->held + 1) % 4;
    }
    return (int)(out - to);
}
