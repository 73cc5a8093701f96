// The main program of every C++ project: Catch 2, and a line for each test that has ended.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

#include <iostream>

struct Results : Catch::TestEventListenerBase {
    using TestEventListenerBase::TestEventListenerBase;

    void testCaseEnded(Catch::TestCaseStats const& stats) override {
        const bool is_passed = stats.totals.testCases.allPassed();
        std::cout << "\n--- " << (is_passed ? "PASS" : "FAIL") << ": " << stats.testInfo.name
                  << std::endl;
    }
};
CATCH_REGISTER_LISTENER(Results)
